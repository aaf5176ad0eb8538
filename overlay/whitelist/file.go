package whitelist

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

const fileVersion = 1

// file is what whitelist.json holds.
type file struct {
	Version int           `json:"version"`
	Enabled *bool         `json:"enabled,omitempty"` // absent until someone switched it
	Entries []storedEntry `json:"entries"`
}

// storedEntry is an Entry with its PSK, which no other JSON shows.
type storedEntry struct {
	Entry
	PSK string `json:"psk,omitempty"` // base64
}

// load returns the state in path, an empty one if there is no file.
func load(path string) (*state, error) {
	f := file{Entries: make([]storedEntry, 0, likely(path))}
	if err := statefile.ReadJSON(path, &f); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if err != nil {
		f.Version = fileVersion
	}
	s, err := f.state()
	if err != nil {
		return nil, statefile.Damaged(path, err.Error())
	}
	return s, nil
}

// entryBytes is about the least that an entry with a key has in the file.
const entryBytes = 200

// likely is room for the entries that a file of its size may have: a list of 10,000 that grows as it is read leaves 6 MB of garbage.
func likely(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return int(min(info.Size()/entryBytes, MaxEntries))
}

// state checks what was read as if it were added anew. Its errors complete the sentence "it ...".
func (f *file) state() (*state, error) {
	if f.Version != fileVersion {
		return nil, fmt.Errorf("has version %d, not %d", f.Version, fileVersion)
	}
	if len(f.Entries) > MaxEntries {
		return nil, fmt.Errorf("has %d entries, %d at most", len(f.Entries), MaxEntries)
	}
	s := &state{enabled: f.Enabled, fallback: true, stored: make(map[netip.Addr]*Entry, len(f.Entries))}
	names := make(map[string]bool, len(f.Entries))
	for i, stored := range f.Entries {
		e, err := stored.entry()
		if err != nil {
			return nil, fmt.Errorf("has a bad entry %d (%w)", i+1, err)
		}
		if _, twice := s.stored[e.Address]; twice {
			return nil, fmt.Errorf("has the address %v twice", e.Address)
		}
		if e.Hostname != "" && names[e.Hostname] {
			return nil, fmt.Errorf("has the hostname %s twice", e.Hostname)
		}
		names[e.Hostname] = true
		s.stored[e.Address] = &e
	}
	return s, nil
}

func (e storedEntry) entry() (Entry, error) {
	if e.PSK != "" {
		b, err := base64.StdEncoding.Strict().DecodeString(e.PSK)
		if err != nil || len(b) != 32 {
			return Entry{}, errors.New("its pre-shared key is not 32 bytes in base64")
		}
		e.Entry.PSK = (*[32]byte)(b)
	}
	if e.Source == SourceConfig {
		return Entry{}, fmt.Errorf("the source %q is never stored", SourceConfig)
	}
	return e.Entry.normalize()
}

func save(path string, s *state) error {
	f := file{Version: fileVersion, Enabled: s.enabled, Entries: []storedEntry{}}
	for _, a := range s.addresses() {
		e := s.stored[a]
		if e == nil {
			continue
		}
		stored := storedEntry{Entry: *e}
		if e.PSK != nil {
			stored.PSK = base64.StdEncoding.EncodeToString(e.PSK[:])
		}
		f.Entries = append(f.Entries, stored)
	}
	return statefile.WriteJSON(path, f, 0o600)
}
