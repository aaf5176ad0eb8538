package names

import (
	"errors"
	"fmt"
	"strings"
)

// Join is the full name of a node.
func Join(ns, node string) string {
	if ns == "/" || ns == "" {
		return "/" + node
	}
	return ns + "/" + node
}

// Split is the inverse of [Join].
func Split(full string) (ns, node string) {
	i := strings.LastIndexByte(full, '/')
	if i <= 0 {
		return "/", full[i+1:]
	}
	return full[:i], full[i+1:]
}

// Input says what is wrong with the name of a topic or service as a program gives it: absolute, relative or private (beginning with '~'),
// perhaps with {node}, {ns} and {namespace} in it.
func Input(name string) error {
	if err := input(name); err != nil {
		return fmt.Errorf("name %q: %w", name, err)
	}
	return nil
}

func input(name string) error {
	if name == "" {
		return errors.New("it is empty")
	}
	rest := name
	if tail, ok := strings.CutPrefix(name, "~"); ok {
		if tail == "" {
			return nil
		}
		if tail[0] != '/' {
			return errors.New("'~' has to be followed by '/'")
		}
		rest = tail
	}
	rest = strings.TrimPrefix(rest, "/")
	// A substitution stands for a whole word: check the rest with a letter in its place.
	var plain strings.Builder
	for {
		before, after, open := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return errors.New("'}' without '{'")
		}
		plain.WriteString(before)
		if !open {
			break
		}
		inside, behind, closed := strings.Cut(after, "}")
		if !closed {
			return errors.New("'{' without '}'")
		}
		if err := token(inside); err != nil {
			return fmt.Errorf("in braces: %w", err)
		}
		plain.WriteByte('x')
		rest = behind
	}
	return tokens(plain.String())
}

// Expand returns the full name of a topic or service that node ns/node gives as name.
func Expand(name, ns, node string) (string, error) {
	if err := Input(name); err != nil {
		return "", err
	}
	full := name
	if strings.HasPrefix(full, "~") {
		full = Join(ns, node) + full[1:]
	}
	var err error
	if full, err = substitute(full, ns, node); err != nil {
		return "", fmt.Errorf("name %q: %w", name, err)
	}
	if !strings.HasPrefix(full, "/") {
		full = Join(ns, full)
	}
	if err := Topic(full); err != nil {
		return "", err
	}
	return full, nil
}

func substitute(name, ns, node string) (string, error) {
	if !strings.Contains(name, "{") {
		return name, nil
	}
	var out strings.Builder
	for {
		before, after, open := strings.Cut(name, "{")
		out.WriteString(before)
		if !open {
			return out.String(), nil
		}
		inside, behind, _ := strings.Cut(after, "}")
		value := ""
		switch inside {
		case "node":
			value = node
		case "ns", "namespace":
			value = ns
		default:
			return "", fmt.Errorf("{%s} is unknown: there are {node}, {ns} and {namespace}", inside)
		}
		// A namespace brings its own slash: "/{ns}/x" and "{ns}/x" both mean "/a/x", and "/x" where ns is "/".
		if strings.HasSuffix(out.String(), "/") {
			value = strings.TrimPrefix(value, "/")
		}
		if value == "/" || value == "" {
			value = ""
			if strings.HasSuffix(out.String(), "/") {
				behind = strings.TrimPrefix(behind, "/")
			}
		}
		out.WriteString(value)
		name = behind
	}
}
