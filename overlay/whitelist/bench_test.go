package whitelist

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// BenchmarkOpen reads a full list, as every start of a node with many peers does.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "whitelist.json")
	s, err := load(path)
	if err != nil {
		b.Fatal(err)
	}
	for i := range MaxEntries {
		id := identity.FromSeed([32]byte{byte(i), byte(i >> 8)})
		s.stored[id.Address()] = &Entry{Address: id.Address(), Key: id.PublicKey(), Hostname: fmt.Sprintf("robot-%05d", i), Source: SourceLocal}
	}
	if err := save(path, s); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(path); err != nil {
			b.Fatal(err)
		}
	}
}
