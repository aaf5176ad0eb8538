package health

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// told records what a set of warnings tells.
type told struct {
	*Warnings
	log     bytes.Buffer
	changes []string
}

func record() *told {
	r := &told{}
	r.Warnings = New(slog.New(slog.NewTextHandler(&r.log, nil)), func(w Warning, on bool) {
		r.changes = append(r.changes, fmt.Sprintf("%s/%s %s %v", w.Code, w.Subject, w.Text, on))
	})
	return r
}

// takeChanges returns what was told since the last call.
func (r *told) takeChanges() []string {
	c := r.changes
	r.changes = nil
	return c
}

func (r *told) lines() int { return strings.Count(r.log.String(), "\n") }

func TestWarnings(t *testing.T) {
	r := record()
	check := func(what string, lines int, changes ...string) {
		t.Helper()
		if diff := cmp.Diff(changes, r.takeChanges()); diff != "" {
			t.Errorf("%s: changes (-want +got):\n%s", what, diff)
		}
		if r.lines() != lines {
			t.Errorf("%s: %d lines of log, want %d:\n%s", what, r.lines(), lines, r.log.String())
		}
	}
	off := Warning{Code: WhitelistOff, Text: "off", Fix: "on"}
	r.Raise(off)
	check("appears", 1, "whitelist_disabled/ off true")
	r.Raise(off)
	check("again", 1)
	off.Text = "still off"
	r.Raise(off)
	check("other words", 1, "whitelist_disabled/ still off true")
	r.Raise(Warning{Code: Endpoint, Subject: "b", Text: "x"})
	r.Raise(Warning{Code: Endpoint, Subject: "a", Text: "y"})
	check("two subjects", 3, "endpoint_unknown/b x true", "endpoint_unknown/a y true")
	want := []Warning{{Endpoint, "a", "y", ""}, {Endpoint, "b", "x", ""}, off}
	if diff := cmp.Diff(want, r.List()); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	r.Clear(Endpoint, "b")
	check("gone", 4, "endpoint_unknown/b x false")
	r.Clear(Endpoint, "b")
	r.Clear(Endpoint, "c")
	r.Clear(PeerRoute, "a")
	check("never there", 4)
	if diff := cmp.Diff([]Warning{want[0], off}, r.List()); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if line := r.log.String(); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "fix=on") || !strings.Contains(line, "no longer: x") {
		t.Errorf("the log lacks something:\n%s", line)
	}
}

func TestSet(t *testing.T) {
	r := record()
	w := Warning{Code: HostsFile, Text: "replaced", Fix: "make it writable"}
	r.Set(nil, w)
	r.Set(errors.New("read-only"), w)
	r.Set(errors.New("read-only"), w)
	r.Set(errors.New("full"), w)
	r.Set(nil, w)
	r.Set(nil, w)
	if diff := cmp.Diff([]string{"hosts_file/ read-only true", "hosts_file/ full true", "hosts_file/ full false"}, r.changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestFull: what the network provokes is bounded and never keeps out what concerns the node.
func TestFull(t *testing.T) {
	r := record()
	for i := range 10 * maxWarnings {
		r.Raise(Warning{Code: PeerCopy, Subject: fmt.Sprint(i)})
	}
	if n := len(r.List()); n != maxWarnings || r.lines() != maxWarnings {
		t.Errorf("%d warnings and %d lines, %d at most", n, r.lines(), maxWarnings)
	}
	r.Raise(Warning{Code: WhitelistOff})
	if n := len(r.List()); n != maxWarnings+1 {
		t.Error("a warning of the node itself found no room")
	}
	// What ended makes room.
	r.Clear(PeerCopy, "7")
	r.Raise(Warning{Code: PeerCopy, Subject: "new"})
	r.Raise(Warning{Code: PeerCopy, Subject: "newer"})
	if n := len(r.List()); n != maxWarnings+1 {
		t.Errorf("%d warnings after one gave way to another", n)
	}
	for i := range 10 * maxWarnings {
		r.Raise(Warning{Code: Endpoint, Subject: fmt.Sprint(i)})
		r.Clear(Endpoint, fmt.Sprint(i))
		r.Clear(PeerCopy, fmt.Sprint(i))
	}
	if len(r.set) > maxWarnings+1 {
		t.Errorf("%d are remembered, of %d at most", len(r.set), maxWarnings+1)
	}
}

func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := record()
		w := Warning{Code: OverlayInside, Subject: "robot", Text: "inside"}
		for range 6000 {
			r.Raise(w)
			r.Clear(w.Code, w.Subject)
			time.Sleep(100 * time.Millisecond)
		}
		// Ten minutes: a line when it comes and one when it goes, each minute.
		if r.lines() != 20 {
			t.Errorf("%d lines of log", r.lines())
		}
		if len(r.changes) != 12_000 {
			t.Errorf("%d changes told, want all", len(r.changes))
		}
	})
}

// TestConcurrent: what is told last of a warning is how it stands.
func TestConcurrent(t *testing.T) {
	last := make(map[string]bool)
	ws := New(slog.New(slog.DiscardHandler), func(w Warning, on bool) { last[w.Subject] = on })
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				subject := fmt.Sprint(j % 3)
				if (i+j)%2 == 0 {
					ws.Raise(Warning{Code: Endpoint, Subject: subject})
				} else {
					ws.Clear(Endpoint, subject)
				}
				ws.List()
			}
		})
	}
	wg.Wait()
	on := make(map[string]bool)
	for _, w := range ws.List() {
		on[w.Subject] = true
	}
	for subject, told := range last {
		if told != on[subject] {
			t.Errorf("%s: told %v, is %v", subject, told, on[subject])
		}
	}
}
