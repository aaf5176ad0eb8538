package whitelist

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

var (
	alice, bob = identity.FromSeed([32]byte{1}), identity.FromSeed([32]byte{2})
	compare    = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	psk        = [32]byte{1, 2, 3, 31: 0xff}
)

func open(t testing.TB, path string) *List {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newList(t testing.TB) (l *List, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "whitelist.json")
	return open(t, path), path
}

func mustAdd(t testing.TB, l *List, e Entry) Entry {
	t.Helper()
	got, err := l.Add(e)
	if err != nil {
		t.Fatalf("Add(%v): %v", e, err)
	}
	return got
}

// same checks what a list holds, and that the file holds the same.
func same(t *testing.T, l *List, path string, want ...Entry) {
	t.Helper()
	for what, l := range map[string]*List{"list": l, "file": open(t, path)} {
		if diff := cmp.Diff(append([]Entry{}, want...), l.Entries(), compare); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
		if l.Len() != len(want) {
			t.Errorf("%s: Len %d, want %d", what, l.Len(), len(want))
		}
		addresses := make([]netip.Addr, 0, len(want))
		for _, e := range want {
			addresses = append(addresses, e.Address)
		}
		if got := l.Addresses(); !slices.Equal(got, addresses) {
			t.Errorf("%s: Addresses %v, want %v", what, got, addresses)
		}
		seen := 0
		for range l.All() {
			if seen++; seen == 2 { // it may be left at any time
				break
			}
		}
		if seen != min(len(want), 2) {
			t.Errorf("%s: All goes through %d", what, seen)
		}
	}
}

func TestAddGetRemove(t *testing.T) {
	l, path := newList(t)
	same(t, l, path)
	byAddress := mustAdd(t, l, Entry{Address: alice.Address(), Hostname: "Robot1"})
	byKey := mustAdd(t, l, Entry{Key: bob.PublicKey(), Endpoint: "203.0.113.5:51820", PSK: &psk, Source: SourceDashboard})
	wantA := Entry{Address: alice.Address(), Hostname: "robot1", Source: SourceLocal}
	wantB := Entry{Address: bob.Address(), Key: bob.PublicKey(), Endpoint: "203.0.113.5:51820", PSK: &psk, Source: SourceDashboard}
	for i, got := range []Entry{byAddress, byKey} {
		if diff := cmp.Diff([]Entry{wantA, wantB}[i], got, compare); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	want := []Entry{wantA, wantB}
	if wantB.Address.Less(wantA.Address) {
		want[0], want[1] = want[1], want[0]
	}
	same(t, l, path, want...)

	if e, ok := l.Get(alice.Address()); !ok || e.Hostname != "robot1" {
		t.Errorf("Get: %v, %v", e, ok)
	}
	if _, ok := l.Get(netip.MustParseAddr("fc94::1")); ok {
		t.Error("Get finds a stranger")
	}
	if e, ok := l.ByKey(bob.PublicKey()); !ok || e.Address != bob.Address() {
		t.Errorf("ByKey: %v, %v", e, ok)
	}
	if e, ok := l.ByKey(alice.PublicKey()); !ok || e.Address != alice.Address() {
		t.Errorf("ByKey of a key not learned yet: %v, %v", e, ok)
	}
	if _, ok := l.ByKey(identity.FromSeed([32]byte{3}).PublicKey()); ok {
		t.Error("ByKey finds a stranger")
	}

	removed, err := l.Remove(bob.Address())
	if diff := cmp.Diff(wantB, removed, compare); err != nil || diff != "" {
		t.Errorf("Remove: %v\n%s", err, diff)
	}
	if _, err := l.Remove(bob.Address()); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove again: %v", err)
	}
	same(t, l, path, wantA)
}

func TestAddAgainUpdates(t *testing.T) {
	l, path := newList(t)
	mustAdd(t, l, Entry{Address: alice.Address(), Hostname: "robot1", Endpoint: "192.0.2.1:1"})
	mustAdd(t, l, Entry{Address: alice.Address()})
	want := Entry{Address: alice.Address(), Hostname: "robot1", Endpoint: "192.0.2.1:1", Source: SourceLocal}
	same(t, l, path, want)
	for _, step := range []struct {
		given Entry
		edit  func(*Entry)
	}{
		{Entry{Endpoint: "robot1.example:2"}, func(e *Entry) { e.Endpoint = "robot1.example:2" }},
		{Entry{Hostname: "arm"}, func(e *Entry) { e.Hostname = "arm" }},
		{Entry{Key: alice.PublicKey()}, func(e *Entry) { e.Key = alice.PublicKey() }},
		{Entry{PSK: &psk}, func(e *Entry) { e.PSK = &psk }},
		{Entry{PSK: &[32]byte{9}}, func(e *Entry) { e.PSK = &[32]byte{9} }},
		{Entry{Relay: true}, func(e *Entry) { e.Relay = true }},
		{Entry{SigningKey: alice.SigningKey()}, func(e *Entry) { e.SigningKey = alice.SigningKey() }},
		{Entry{Source: SourceDashboard}, func(e *Entry) { e.Source = SourceDashboard }},
		{Entry{}, func(e *Entry) { e.Source = SourceLocal }},
	} {
		step.given.Address = alice.Address()
		step.edit(&want)
		if diff := cmp.Diff(want, mustAdd(t, l, step.given), compare); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		same(t, l, path, want)
	}
}

func TestAddRefuses(t *testing.T) {
	l, path := newList(t)
	mustAdd(t, l, Entry{Address: bob.Address(), Hostname: "taken", Key: bob.PublicKey()})
	var torsion identity.SigningKey
	torsion[0] = 1
	for name, tt := range map[string]struct {
		entry Entry
		want  error
	}{
		"nothing":               {Entry{}, nil},
		"underlay address":      {Entry{Address: netip.MustParseAddr("192.0.2.1")}, nil},
		"other prefix":          {Entry{Address: netip.MustParseAddr("fd94::1")}, nil},
		"zone":                  {Entry{Address: alice.Address().WithZone("hnet0")}, nil},
		"key of another":        {Entry{Address: alice.Address(), Key: bob.PublicKey()}, ErrKey},
		"signing key of other":  {Entry{Address: alice.Address(), SigningKey: bob.SigningKey()}, ErrKey},
		"keys of two":           {Entry{Key: alice.PublicKey(), SigningKey: bob.SigningKey()}, ErrKey},
		"low-order key":         {Entry{Key: identity.PublicKey{1}}, identity.ErrLowOrder},
		"low-order signing key": {Entry{SigningKey: torsion}, identity.ErrLowOrder},
		"bad hostname":          {Entry{Address: alice.Address(), Hostname: "a_b"}, nil},
		"system hostname":       {Entry{Address: alice.Address(), Hostname: "localhost"}, nil},
		"taken hostname":        {Entry{Address: alice.Address(), Hostname: "Taken"}, ErrTaken},
		"unknown source":        {Entry{Address: alice.Address(), Source: "x"}, nil},
		"configuration":         {Entry{Address: alice.Address(), Source: SourceConfig}, nil},
		"no port":               {Entry{Address: alice.Address(), Endpoint: "192.0.2.1"}, nil},
		"port 0":                {Entry{Address: alice.Address(), Endpoint: "192.0.2.1:0"}, nil},
		"big port":              {Entry{Address: alice.Address(), Endpoint: "192.0.2.1:65536"}, nil},
		"named port":            {Entry{Address: alice.Address(), Endpoint: "192.0.2.1:http"}, nil},
		"bare IPv6":             {Entry{Address: alice.Address(), Endpoint: "2001:db8::1:5582"}, nil},
		"no host":               {Entry{Address: alice.Address(), Endpoint: ":5582"}, nil},
		"overlay endpoint":      {Entry{Address: alice.Address(), Endpoint: "[fc94::1]:5582"}, nil},
		"overlay with zone":     {Entry{Address: alice.Address(), Endpoint: "[fc94::1%eth0]:5582"}, nil},
		"multicast endpoint":    {Entry{Address: alice.Address(), Endpoint: "224.0.0.1:5582"}, nil},
		"mapped multicast":      {Entry{Address: alice.Address(), Endpoint: "[::ffff:224.0.0.1]:5582"}, nil},
		"unspecified endpoint":  {Entry{Address: alice.Address(), Endpoint: "0.0.0.0:5582"}, nil},
		"text endpoint":         {Entry{Address: alice.Address(), Endpoint: "a b:5582"}, nil},
	} {
		_, err := l.Add(tt.entry)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error of several lines: %q", name, err)
		}
	}
	same(t, l, path, Entry{Address: bob.Address(), Hostname: "taken", Key: bob.PublicKey(), Source: SourceLocal})
}

func TestEndpointsThatWork(t *testing.T) {
	l, _ := newList(t)
	for _, s := range []string{"192.0.2.1:5582", "127.0.0.1:1", "[2001:db8::1]:65535", "[fe80::1%eth0]:5582", "robot.example:5582", "robot:1"} {
		if e := mustAdd(t, l, Entry{Address: alice.Address(), Endpoint: s}); e.Endpoint != s {
			t.Errorf("%s became %s", s, e.Endpoint)
		}
	}
}

// negative is the other signing key with the same Montgomery form.
func negative(k identity.SigningKey) identity.SigningKey {
	k[31] ^= 0x80
	return k
}

func TestPin(t *testing.T) {
	l, path := newList(t)
	mustAdd(t, l, Entry{Address: alice.Address(), Hostname: "robot1"})
	want := Entry{Address: alice.Address(), Hostname: "robot1", Source: SourceLocal}

	if err := l.Pin(alice.Address(), bob.PublicKey()); !errors.Is(err, ErrKey) {
		t.Errorf("key of another: %v", err)
	}
	if err := l.PinSigning(alice.Address(), bob.SigningKey()); !errors.Is(err, ErrKey) {
		t.Errorf("signing key of another: %v", err)
	}
	if err := l.Pin(bob.Address(), bob.PublicKey()); !errors.Is(err, ErrNotFound) {
		t.Errorf("not listed: %v", err)
	}
	if err := l.Pin(alice.Address(), identity.PublicKey{}); err == nil {
		t.Error("no key is pinned")
	}
	if err := l.PinSigning(alice.Address(), identity.SigningKey{}); err == nil {
		t.Error("no signing key is pinned")
	}
	same(t, l, path, want)

	if err := l.Pin(alice.Address(), alice.PublicKey()); err != nil {
		t.Fatal(err)
	}
	want.Key = alice.PublicKey()
	same(t, l, path, want)
	if err := l.PinSigning(alice.Address(), alice.SigningKey()); err != nil {
		t.Fatal(err)
	}
	want.SigningKey = alice.SigningKey()
	same(t, l, path, want)

	if err := l.PinSigning(alice.Address(), negative(alice.SigningKey())); !errors.Is(err, ErrKey) {
		t.Errorf("another signing key of the same form: %v", err)
	}
	if _, err := l.Add(Entry{Address: alice.Address(), SigningKey: negative(alice.SigningKey())}); !errors.Is(err, ErrKey) {
		t.Errorf("Add of it: %v", err)
	}
	// Pinned already: nothing is written, so a folder that is gone does not matter.
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Pin(alice.Address(), alice.PublicKey()), l.PinSigning(alice.Address(), alice.SigningKey())); err != nil {
		t.Errorf("pinned again: %v", err)
	}
}

func TestStatic(t *testing.T) {
	l, path := newList(t)
	mustAdd(t, l, Entry{Address: alice.Address(), Hostname: "robot1", Endpoint: "192.0.2.1:1"})
	stored, _ := l.Get(alice.Address())
	static := []Entry{
		{Key: alice.PublicKey(), Endpoint: "192.0.2.9:9", PSK: &psk},
		{Key: bob.PublicKey(), Relay: true},
	}
	if err := l.SetStatic(static); err != nil {
		t.Fatal(err)
	}
	if l.Len() != 2 {
		t.Errorf("Len %d, want 2", l.Len())
	}
	got, _ := l.Get(alice.Address())
	want := Entry{Address: alice.Address(), Hostname: "robot1", Key: alice.PublicKey(), Endpoint: "192.0.2.9:9", PSK: &psk, Source: SourceConfig}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("the configuration does not win (-want +got)\n%s", diff)
	}
	if _, err := l.Remove(bob.Address()); !errors.Is(err, ErrStatic) {
		t.Errorf("Remove: %v", err)
	}
	if _, err := l.Add(Entry{Address: bob.Address(), Hostname: "phone"}); !errors.Is(err, ErrStatic) {
		t.Errorf("Add with another hostname: %v", err)
	}
	if _, err := l.Add(Entry{Address: bob.Address()}); err != nil {
		t.Errorf("Add as it is: %v", err)
	}
	if err := l.PinSigning(bob.Address(), bob.SigningKey()); err != nil {
		t.Errorf("PinSigning: %v", err)
	}
	if e, _ := l.Get(bob.Address()); e.SigningKey != bob.SigningKey() || e.Source != SourceConfig {
		t.Errorf("after PinSigning: %+v", e)
	}
	mustAdd(t, l, Entry{Address: netip.MustParseAddr("fc94::1")})
	if n := open(t, path).Len(); n != 2 {
		t.Errorf("%d entries are stored, want the 2 that are not static", n)
	}

	for name, bad := range map[string][]Entry{
		"twice":     {{Key: bob.PublicKey()}, {Address: bob.Address()}},
		"bad entry": {{Key: identity.PublicKey{1}}},
		"too many":  make([]Entry, MaxEntries),
	} {
		for i := range bad {
			if name == "too many" {
				bad[i].Address = numbered(i)
			}
		}
		if err := l.SetStatic(bad); err == nil {
			t.Errorf("%s is accepted", name)
		}
		if e, ok := l.Get(bob.Address()); !ok || e.Source != SourceConfig {
			t.Errorf("%s changed the list: %v, %v", name, e, ok)
		}
	}

	if err := l.SetStatic(nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stored, firstOf(l.Get(alice.Address())), compare); diff != "" {
		t.Errorf("what was stored is not back (-want +got)\n%s", diff)
	}
	if _, ok := l.Get(bob.Address()); ok {
		t.Error("the static entry is still there")
	}
}

func firstOf(e Entry, _ bool) Entry { return e }

func numbered(i int) netip.Addr {
	a := identity.Prefix.Addr().As16()
	a[2], a[14], a[15] = 0xff, byte(i>>8), byte(i)
	return netip.AddrFrom16(a)
}

func TestBounded(t *testing.T) {
	_, path := newList(t)
	f := file{Version: fileVersion}
	for i := range MaxEntries {
		f.Entries = append(f.Entries, storedEntry{Entry: Entry{Address: numbered(i), Hostname: fmt.Sprint("robot-", i), Source: SourceLocal}})
	}
	if err := statefile.WriteJSON(path, f, 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path)
	if l.Len() != MaxEntries {
		t.Fatalf("Len %d", l.Len())
	}
	if _, err := l.Add(Entry{Address: alice.Address()}); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	mustAdd(t, l, Entry{Address: numbered(7), Endpoint: "192.0.2.1:1"})
	if _, err := l.Remove(numbered(8)); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, l, Entry{Address: alice.Address()})

	f.Entries = append(f.Entries, storedEntry{Entry: Entry{Address: alice.Address()}})
	if err := statefile.WriteJSON(path, f, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, statefile.ErrDamaged) {
		t.Errorf("a file of too many: %v", err)
	}
}

// The longest entries must fit into what ReadJSON reads.
func TestFullListFitsItsFile(t *testing.T) {
	_, path := newList(t)
	name := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "."
	s := &state{stored: make(map[netip.Addr]*Entry)}
	for i := range MaxEntries {
		s.stored[numbered(i)] = &Entry{
			Address: numbered(i), Hostname: name + fmt.Sprintf("x%060d", i), Key: alice.PublicKey(), SigningKey: alice.SigningKey(),
			Endpoint: name + strings.Repeat("d", 61) + ":65535", PSK: &psk, Relay: true, Source: SourceDashboard,
		}
	}
	if _, err := hostnames.Normalize(s.stored[numbered(1)].Hostname); err != nil {
		t.Fatal(err)
	}
	if err := save(path, s); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > statefile.MaxJSON {
		t.Errorf("%v bytes, %v", info.Size(), err)
	}
}

func TestEnabled(t *testing.T) {
	l, path := newList(t)
	if !l.Enabled() {
		t.Error("a new list is not enforced")
	}
	l.SetDefaultEnabled(false)
	if l.Enabled() || !open(t, path).Enabled() {
		t.Error("the default does not hold, or was stored")
	}
	for _, enabled := range []bool{true, false, true} {
		if err := l.SetEnabled(enabled); err != nil {
			t.Fatal(err)
		}
		if l.Enabled() != enabled || open(t, path).Enabled() != enabled {
			t.Errorf("SetEnabled(%v) does not hold", enabled)
		}
	}
	l.SetDefaultEnabled(false)
	if !l.Enabled() {
		t.Error("the default overrides what was set")
	}
}

func TestFailedChangeDoesNotHappen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := open(t, filepath.Join(dir, "whitelist.json"))
	want := mustAdd(t, l, Entry{Address: alice.Address()})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"Add":        func() error { _, err := l.Add(Entry{Address: bob.Address()}); return err },
		"update":     func() error { _, err := l.Add(Entry{Address: alice.Address(), Hostname: "x"}); return err },
		"Remove":     func() error { _, err := l.Remove(alice.Address()); return err },
		"Pin":        func() error { return l.Pin(alice.Address(), alice.PublicKey()) },
		"SetEnabled": func() error { return l.SetEnabled(false) },
	} {
		if err := change(); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff([]Entry{want}, l.Entries(), compare); diff != "" || !l.Enabled() {
		t.Errorf("enabled %v (-want +got)\n%s", l.Enabled(), diff)
	}
}

func TestPSKStaysSecret(t *testing.T) {
	l, path := newList(t)
	given := psk
	e := mustAdd(t, l, Entry{Address: alice.Address(), PSK: &given})
	secret := base64.StdEncoding.EncodeToString(psk[:])
	shown, err := json.Marshal(l.Entries())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(shown), fmt.Sprint(e), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e)} {
		if strings.Contains(text, secret) || strings.Contains(strings.ToLower(text), "psk\":") || strings.Contains(text, "1, 2, 3") {
			t.Errorf("the PSK shows: %s", text)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// Nobody outside holds what is inside.
	given[0], e.PSK[1] = 99, 99
	l.Entries()[0].PSK[2] = 99
	if got, _ := l.Get(alice.Address()); *got.PSK != psk {
		t.Errorf("the PSK was changed from outside: %v", *got.PSK)
	}
}

func TestConcurrentUse(t *testing.T) {
	l, path := newList(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := l.Add(Entry{Address: numbered(i)}); err != nil {
				t.Error(err)
			}
			l.Get(numbered(i))
			l.ByKey(alice.PublicKey())
			l.Entries()
			if i%2 == 1 {
				if _, err := l.Remove(numbered(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if l.Len() != 4 || open(t, path).Len() != 4 {
		t.Errorf("%d entries, %d stored, want 4", l.Len(), open(t, path).Len())
	}
}

func BenchmarkByKey(b *testing.B) {
	l, _ := newList(b)
	mustAdd(b, l, Entry{Key: alice.PublicKey()})
	for b.Loop() {
		l.ByKey(alice.PublicKey())
	}
}
