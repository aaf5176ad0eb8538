package names

import (
	"errors"
	"fmt"
	"strings"
)

// Longest names, in bytes, as in rmw: DDS allows 256 for a topic, of which prefixes such as "rq" and suffixes such as "Reply" take their part.
const (
	MaxNode      = 255
	MaxNamespace = 245
	MaxTopic     = 247
)

// Node says what is wrong with a node's name, which has no slashes.
func Node(name string) error {
	switch {
	case name == "":
		return errors.New("node name is empty")
	case len(name) > MaxNode:
		return fmt.Errorf("node name of %d bytes: at most %d", len(name), MaxNode)
	}
	if err := token(name); err != nil {
		return fmt.Errorf("node name %q: %w", name, err)
	}
	return nil
}

// Namespace says what is wrong with a namespace, which is "/" or begins and does not end with a slash.
func Namespace(ns string) error {
	if ns == "/" {
		return nil
	}
	if len(ns) > MaxNamespace {
		return fmt.Errorf("namespace of %d bytes: at most %d", len(ns), MaxNamespace)
	}
	if err := absolute(ns); err != nil {
		return fmt.Errorf("namespace %q: %w", ns, err)
	}
	return nil
}

// Topic says what is wrong with the full name of a topic or service.
func Topic(name string) error {
	if len(name) > MaxTopic {
		return fmt.Errorf("name of %d bytes: at most %d", len(name), MaxTopic)
	}
	if err := absolute(name); err != nil {
		return fmt.Errorf("name %q: %w", name, err)
	}
	return nil
}

func absolute(name string) error {
	rest, ok := strings.CutPrefix(name, "/")
	if !ok {
		return errors.New("it has to begin with '/'")
	}
	return tokens(rest)
}

// tokens checks what stands between slashes.
func tokens(s string) error {
	for part := range strings.SplitSeq(s, "/") {
		if err := token(part); err != nil {
			return err
		}
	}
	return nil
}

func token(s string) error {
	if s == "" {
		return errors.New("there is nothing before, between or behind slashes")
	}
	for i := range len(s) {
		if !wordByte(s[i]) {
			return fmt.Errorf("%q at %d: only letters, digits and '_' are allowed", s[i:i+1], i)
		}
	}
	if digit(s[0]) {
		return fmt.Errorf("%q begins with a digit", s)
	}
	return nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func wordByte(c byte) bool {
	return digit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}
