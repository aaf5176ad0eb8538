package profile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxDepth bounds how deep values of a JSON5 document may be nested.
const maxDepth = 32

// parseJSON5 reads the part of JSON5 that zenoh's configurations use: comments, names without quotes, a comma at the end.
// It returns map[string]any, []any, string, float64, bool and nil.
func parseJSON5(text []byte) (any, error) {
	if len(text) > MaxProfile {
		return nil, fmt.Errorf("it is larger than %d bytes", MaxProfile)
	}
	p := &json5{text: string(text)}
	v, err := p.value(0)
	if err == nil {
		err = p.space()
	}
	if err == nil && p.at < len(p.text) {
		err = errors.New("something follows its end")
	}
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", 1+strings.Count(p.text[:min(p.at, len(p.text))], "\n"), err)
	}
	return v, nil
}

type json5 struct {
	text string
	at   int
}

var errCutOff = errors.New("it ends too early")

// space passes over blanks and comments.
func (p *json5) space() error {
	for p.at < len(p.text) {
		rest := p.text[p.at:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			p.at++
		case strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			p.at += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return errCutOff
			}
			p.at += 2 + n + 2
		default:
			return nil
		}
	}
	return nil
}

// next is the next character that counts; it stays where it is.
func (p *json5) next() (byte, error) {
	if err := p.space(); err != nil {
		return 0, err
	}
	if p.at >= len(p.text) {
		return 0, errCutOff
	}
	return p.text[p.at], nil
}

func (p *json5) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("it is nested too deep")
	}
	c, err := p.next()
	switch {
	case err != nil:
		return nil, err
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"' || c == '\'':
		return p.quoted()
	}
	switch w := p.word(); w {
	case "true", "false":
		return w == "true", nil
	case "null":
		return nil, nil
	case "":
		return nil, fmt.Errorf("%q is not expected", c)
	default:
		n, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no value", w)
		}
		return n, nil
	}
}

func (p *json5) object(depth int) (any, error) {
	out := make(map[string]any)
	p.at++
	for {
		c, err := p.next()
		if err != nil {
			return nil, err
		}
		if c == '}' {
			p.at++
			return out, nil
		}
		var name string
		if c == '"' || c == '\'' {
			name, err = p.quoted()
		} else if name = p.word(); name == "" {
			err = fmt.Errorf("%q is not expected", c)
		}
		if err != nil {
			return nil, err
		}
		if c, err = p.next(); err != nil {
			return nil, err
		} else if c != ':' {
			return nil, fmt.Errorf("a colon is missing after %s", name)
		}
		p.at++
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		if out[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if err := p.comma('}'); err != nil {
			return nil, err
		}
	}
}

func (p *json5) array(depth int) (any, error) {
	out := []any{}
	p.at++
	for {
		c, err := p.next()
		if err != nil {
			return nil, err
		}
		if c == ']' {
			p.at++
			return out, nil
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		if err := p.comma(']'); err != nil {
			return nil, err
		}
	}
}

// comma passes over the comma between two values; the last needs none.
func (p *json5) comma(end byte) error {
	c, err := p.next()
	if err != nil {
		return err
	}
	if c == ',' {
		p.at++
	} else if c != end {
		return errors.New("a comma is missing")
	}
	return nil
}

func (p *json5) quoted() (string, error) {
	quote := p.text[p.at]
	p.at++
	var out strings.Builder
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == quote:
			return out.String(), nil
		case c == '\n':
			return "", errors.New("a text has no end")
		case c == '\\':
			if p.at >= len(p.text) {
				return "", errCutOff
			}
			out.WriteByte(p.text[p.at])
			p.at++
		default:
			out.WriteByte(c)
		}
	}
	return "", errCutOff
}

func (p *json5) word() string {
	begin := p.at
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n,:{}[]\"'/", p.text[p.at]) < 0 {
		p.at++
	}
	return p.text[begin:p.at]
}
