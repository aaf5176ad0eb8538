package names

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what a [Rule] changes.
type Kind uint8

// Kinds of rules.
const (
	Names     Kind = iota // topics and services
	Topics                // rostopic://
	Services              // rosservice://
	NodeName              // __node or __name
	NodeSpace             // __ns
)

// Rule is a remapping rule, such as "chatter:=/news" or "talker:__ns:=/robot1".
type Rule struct {
	Node string // the rule is for nodes of this name, before __ns and after __node; "" = for all
	Kind Kind
	From string // of Names, Topics and Services
	To   string
}

// ParseRule reads a rule as it stands on a command line behind -r.
func ParseRule(s string) (Rule, error) {
	r, err := parseRule(s)
	if err != nil {
		return Rule{}, fmt.Errorf("remapping rule %q: %w", s, err)
	}
	return r, nil
}

func parseRule(s string) (r Rule, err error) {
	from, to, ok := strings.Cut(s, ":=")
	if !ok {
		return r, errors.New(`want "from:=to"`)
	}
	if strings.Contains(to, ":=") {
		return r, errors.New("a second \":=\"")
	}
	r.Node, from = CutNode(from)
	r.To = to
	switch {
	case from == "__node", from == "__name":
		r.Kind = NodeName
		return r, Node(to)
	case from == "__ns":
		r.Kind = NodeSpace
		return r, Namespace(to)
	}
	if rest, ok := strings.CutPrefix(from, "rostopic://"); ok {
		r.Kind, from = Topics, rest
	} else if rest, ok := strings.CutPrefix(from, "rosservice://"); ok {
		r.Kind, from = Services, rest
	}
	r.From = from
	for _, side := range []string{from, to} {
		if strings.ContainsAny(side, `*\`) {
			return r, errors.New("wildcards are not supported, in rcl neither: write one rule for each name")
		}
		if err := Input(side); err != nil {
			return r, err
		}
	}
	return r, nil
}

// CutNode splits "node:rest" of remapping rules and parameters. Without such a prefix node is empty.
func CutNode(s string) (node, rest string) {
	before, after, ok := strings.Cut(s, ":")
	if ok && !strings.HasPrefix(after, "//") && token(before) == nil {
		return before, after
	}
	return "", s
}

// Rules are tried in order; the first that fits is the one that counts. The zero value changes nothing.
type Rules []Rule

// NodeName returns the name that a node gets which was named name by its program.
func (r Rules) NodeName(name string) string {
	if rule := r.first(NodeName, name); rule != nil {
		return rule.To
	}
	return name
}

// Namespace returns the namespace of a node with its final name, whose program placed it in ns.
func (r Rules) Namespace(node, ns string) string {
	if rule := r.first(NodeSpace, node); rule != nil {
		return rule.To
	}
	return ns
}

func (r Rules) first(kind Kind, node string) *Rule {
	for i := range r {
		if r[i].Kind == kind && (r[i].Node == "" || r[i].Node == node) {
			return &r[i]
		}
	}
	return nil
}

// Topic returns the full name under which node ns/node meets others on what it calls name.
func (r Rules) Topic(name, ns, node string) (string, error) { return r.resolve(Topics, name, ns, node) }

// Service is [Rules.Topic] for services.
func (r Rules) Service(name, ns, node string) (string, error) {
	return r.resolve(Services, name, ns, node)
}

func (r Rules) resolve(kind Kind, name, ns, node string) (string, error) {
	full, err := Expand(name, ns, node)
	if err != nil {
		return "", err
	}
	for i := range r {
		rule := &r[i]
		if rule.Kind != Names && rule.Kind != kind || rule.Node != "" && rule.Node != node {
			continue
		}
		from, err := Expand(rule.From, ns, node)
		if err != nil || from != full {
			continue // a rule that cannot be completed here is for another node
		}
		to, err := Expand(rule.To, ns, node)
		if err != nil {
			return "", fmt.Errorf("remapping rule %s:=%s: %w", rule.From, rule.To, err)
		}
		return to, nil
	}
	return full, nil
}
