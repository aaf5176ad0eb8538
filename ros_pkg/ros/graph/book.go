package graph

import (
	"slices"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Bounds of a [Book].
const (
	maxParticipants = 1 << 12
	maxGUIDs        = 1 << 20 // of all nodes, a node counting as 16
)

// Book holds what each participant tells. Its zero value is empty; it is not for several goroutines at once.
type Book struct {
	of   map[wire.GuidPrefix]page
	cost int // of all pages
}

type page struct {
	Info
	cost int
}

func cost(i *Info) int {
	n := 0
	for _, node := range i.Nodes {
		n += 16 + len(node.Readers) + len(node.Writers)
	}
	return n
}

// Set replaces what a participant told. It is false, and the participant forgotten, if there is no room for it.
func (b *Book) Set(info Info) bool {
	b.Remove(info.Participant.Prefix)
	if c := cost(&info); len(b.of) < maxParticipants && b.cost+c <= maxGUIDs {
		if b.of == nil {
			b.of = map[wire.GuidPrefix]page{}
		}
		b.of[info.Participant.Prefix] = page{info, c}
		b.cost += c
		return true
	}
	return false
}

// Remove forgets a participant. It is false if nothing was known.
func (b *Book) Remove(p wire.GuidPrefix) bool {
	old, ok := b.of[p]
	if ok {
		b.cost -= old.cost
		delete(b.of, p)
	}
	return ok
}

// Entry is a node of a participant.
type Entry struct {
	Node
	Participant wire.GuidPrefix
}

// Nodes returns all nodes, sorted by their full names. What they point to must not be changed.
func (b *Book) Nodes() []Entry {
	var out []Entry
	for p, info := range b.of {
		for _, n := range info.Nodes {
			out = append(out, Entry{n, p})
		}
	}
	slices.SortFunc(out, func(x, y Entry) int {
		if c := strings.Compare(x.Full(), y.Full()); c != 0 {
			return c
		}
		return slices.Compare(x.Participant[:], y.Participant[:])
	})
	return out
}

// Owners maps endpoints to the nodes they belong to.
func (b *Book) Owners() map[wire.GUID]Entry {
	out := map[wire.GUID]Entry{}
	for p, info := range b.of {
		for _, n := range info.Nodes {
			for _, list := range [][]wire.GUID{n.Readers, n.Writers} {
				for _, g := range list {
					if g.Prefix == p { // nobody owns another's endpoints
						out[g] = Entry{n, p}
					}
				}
			}
		}
	}
	return out
}
