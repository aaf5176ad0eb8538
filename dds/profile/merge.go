package profile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// MergeFastDDS returns somebody's own profile of Fast DDS with ours added to it: our transports and peers go into the
// participant that is its default (or ours becomes that, if it has none), and ours are the defaults of writers where it
// has none. All that is in it stays as it is, to the letter. The error says what cannot be brought together.
func MergeFastDDS(own, ours []byte) ([]byte, error) {
	if len(own) > MaxProfile {
		return nil, fmt.Errorf("it is larger than %d bytes", MaxProfile)
	}
	theirs, err := readElement(own)
	if err != nil {
		return nil, fmt.Errorf("it is no valid XML: %w", err)
	}
	add, err := readElement(ours)
	if err != nil {
		return nil, fmt.Errorf("hnet's profile is no valid XML: %w", err)
	}
	m := merge{own: own, ours: ours}
	into, from := theirs.profiles(), add.profiles()
	switch {
	case into == nil:
		return nil, fmt.Errorf("it has no <profiles>: its outermost element is <%s>", theirs.name)
	case from == nil || from.child("transport_descriptors") == nil || from.child("participant") == nil:
		return nil, errors.New("hnet's profile lacks parts")
	case into.empty:
		return nil, errors.New("its <profiles> has no end of its own: write <profiles></profiles>")
	}
	if err := m.transports(into, from); err != nil {
		return nil, err
	}
	if err := m.participant(into, from); err != nil {
		return nil, err
	}
	for _, kind := range []string{"data_writer", "publisher"} {
		if into.byDefault(kind) != nil {
			from = &element{} // theirs count for writers
		}
	}
	for _, e := range from.all("data_writer") {
		if !into.named("data_writer", e.attr("profile_name")) {
			m.insert(into.inner[1], m.text(e))
		}
	}
	out := m.apply()
	if _, err := readElement(out); err != nil {
		return nil, fmt.Errorf("hnet's profile does not fit into it: %w", err)
	}
	return out, nil
}

// merge collects what is put where.
type merge struct {
	own, ours []byte
	inserts   []insert
}

type insert struct {
	at   int
	text string
}

func (m *merge) insert(at int, text string) {
	m.inserts = append(m.inserts, insert{at, "\n<!-- hnet -->" + text + "\n"})
}

func (m *merge) text(e *element) string { return string(m.ours[e.outer[0]:e.outer[1]]) }

// apply puts all in, from the end, so that the places before stay right.
func (m *merge) apply() []byte {
	out := slices.Clone(m.own)
	slices.SortStableFunc(m.inserts, func(a, b insert) int { return b.at - a.at })
	// Of several at one place the first comes first.
	for i := 0; i < len(m.inserts); {
		j := i
		var text strings.Builder
		for ; j < len(m.inserts) && m.inserts[j].at == m.inserts[i].at; j++ {
			text.WriteString(m.inserts[j].text)
		}
		out = slices.Insert(out, m.inserts[i].at, []byte(text.String())...)
		i = j
	}
	return out
}

// into puts all children of ours, which has them, into the element of theirs with the name; it is made where it is missing.
func (m *merge) into(theirs, ours *element, name string) error {
	from := ours.child(name)
	if from == nil {
		return nil
	}
	to := theirs.child(name)
	if to == nil {
		m.insert(theirs.inner[1], m.text(from))
		return nil
	}
	if to.empty {
		return fmt.Errorf("its <%s/> has no end of its own: write <%s></%[2]s>", name, name)
	}
	for _, e := range from.children {
		m.insert(to.inner[1], m.text(e))
	}
	return nil
}

// transports go to the front where there are none: the library must have read them when a participant names one.
func (m *merge) transports(into, from *element) error {
	if into.child("transport_descriptors") == nil {
		m.insert(into.inner[0], m.text(from.child("transport_descriptors")))
		return nil
	}
	return m.into(into, from, "transport_descriptors")
}

// participant adds to the default participant what makes it use our transports and find the relay.
func (m *merge) participant(into, from *element) error {
	ours := from.child("participant")
	theirs := into.byDefault("participant")
	if theirs == nil {
		m.insert(into.inner[1], m.text(ours))
		return nil
	}
	rtps := theirs.child("rtps")
	if rtps == nil {
		if theirs.empty {
			return errors.New("its default <participant/> has no end of its own: write <participant ...></participant>")
		}
		m.insert(theirs.inner[1], m.text(ours.child("rtps")))
		return nil
	}
	if rtps.empty {
		return errors.New("its <rtps/> has no end of its own: write <rtps></rtps>")
	}
	our := ours.child("rtps")
	if err := m.into(rtps, our, "userTransports"); err != nil {
		return err
	}
	// Their own word on the built-in transports stays; without one they are off, as ours would be without them.
	if rtps.child("useBuiltinTransports") == nil && rtps.child("userTransports") == nil {
		m.insert(rtps.inner[1], m.text(our.child("useBuiltinTransports")))
	}
	builtin := rtps.child("builtin")
	if builtin == nil {
		m.insert(rtps.inner[1], m.text(our.child("builtin")))
		return nil
	}
	if builtin.empty {
		return errors.New("its <builtin/> has no end of its own: write <builtin></builtin>")
	}
	if d := builtin.child("discovery_config"); d != nil && d.child("discoveryProtocol") != nil {
		if kind := strings.TrimSpace(d.child("discoveryProtocol").value); kind != "SIMPLE" {
			return fmt.Errorf("it uses discovery protocol %s, in which participants are not found through hnetd", kind)
		}
	}
	return m.into(builtin, our.child("builtin"), "initialPeersList")
}

// element is a part of an XML document with the places of its text.
type element struct {
	name     string
	attrs    []xml.Attr
	outer    [2]int // from the start of <name> to the end of </name>
	inner    [2]int // between the tags
	empty    bool   // <name/>
	value    string // text directly in it
	children []*element
}

const maxElements = 100_000

// readElement reads a document and returns its outermost element.
func readElement(text []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	top := &element{}
	stack := []*element{top}
	count := 0
	for {
		began := int(d.InputOffset())
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		now := int(d.InputOffset())
		last := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if count++; count > maxElements || len(stack) > maxDepth {
				return nil, errors.New("it has too many elements")
			}
			e := &element{name: t.Name.Local, attrs: slices.Clone(t.Attr), outer: [2]int{began, now}, inner: [2]int{now, now}}
			e.empty = bytes.HasSuffix(text[began:now], []byte("/>"))
			last.children = append(last.children, e)
			stack = append(stack, e)
		case xml.EndElement:
			last.inner[1], last.outer[1] = began, now
			stack = stack[:len(stack)-1]
		case xml.CharData:
			last.value += string(t)
		}
	}
	if len(top.children) != 1 {
		return nil, errors.New("it has no element")
	}
	return top.children[0], nil
}

func (e *element) child(name string) *element {
	if i := slices.IndexFunc(e.children, func(c *element) bool { return c.name == name }); i >= 0 {
		return e.children[i]
	}
	return nil
}

func (e *element) all(name string) (list []*element) {
	for _, c := range e.children {
		if c.name == name {
			list = append(list, c)
		}
	}
	return list
}

// attr is the value of an attribute, empty if there is none.
func (e *element) attr(name string) string {
	for _, a := range e.attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// named reports whether there is a child of a kind with a profile's name.
func (e *element) named(kind, name string) bool {
	return slices.ContainsFunc(e.all(kind), func(c *element) bool { return c.attr("profile_name") == name })
}

// byDefault is the child of a kind that programs use which name none.
func (e *element) byDefault(kind string) *element {
	for _, c := range e.all(kind) {
		if v := c.attr("is_default_profile"); v == "true" || v == "1" {
			return c
		}
	}
	return nil
}

// profiles is the element that holds them: the document's own, or the one in <dds>.
func (e *element) profiles() *element {
	if e.name == "profiles" {
		return e
	}
	if e.name == "dds" {
		return e.child("profiles")
	}
	return nil
}
