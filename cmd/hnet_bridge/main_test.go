package main

import (
	"slices"
	"strings"
	"testing"
)

func TestOwnArguments(t *testing.T) {
	for line, want := range map[string]string{
		"":                                     "",
		"--version":                            "--version",
		"--ros-args -r a:=b":                   "",
		"--ros-args -r a:=b --":                "",
		"x --ros-args -r a:=b -- y":            "x y",
		"x --ros-args -p a:=1 -- --ros-args z": "x",
	} {
		if got := ownArguments(strings.Fields(line)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("of %q: %q, want %q", line, got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for line, want := range map[string]int{"--version": 0, "--help": 0, "--ros-args -r a:=b -- --version": 0, "--colour": exitUsage, "start": exitUsage} {
		if got := run(strings.Fields(line)); got != want {
			t.Errorf("%q: exit code %d, want %d", line, got, want)
		}
	}
}
