package node

import (
	"net/netip"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
)

// news is what happened to a peer since the node last looked at it. It has no order and no count: whoever reads it asks the engine how
// things stand now, so however fast things happen, there is one letter for each peer.
type news uint8

const (
	newEntry      news = 1 << iota // its entry in the whitelist came, changed or went
	cameUp                         // it got a session; not together with wentDown, the later counts
	wentDown                       // its session ended
	newPath                        // its path is another, or carries less than was believed
	contactWanted                  // packets wait for it
	refused                        // it asked for contact and may not
	listedAnew                     // it was not on the whitelist before newEntry
)

// letter is the news of one peer.
type letter struct {
	news news
	from netip.AddrPort // of a peer that was refused
}

// maxLetters bounds the inbox: the 10,000 peers of a full whitelist, 1024 others, and room. News that come again by themselves
// (contactWanted, refused) may take half of it.
const maxLetters = 1 << 14

// inbox gathers news without ever making its source wait.
type inbox struct {
	ready chan struct{} // has a value when there are letters

	mu      sync.Mutex
	letters map[netip.Addr]letter
}

func newInbox() *inbox {
	return &inbox{ready: make(chan struct{}, 1), letters: make(map[netip.Addr]letter)}
}

func (b *inbox) put(peer netip.Addr, what news, from netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, waiting := b.letters[peer]
	room := maxLetters
	if what&(contactWanted|refused) != 0 {
		room /= 2
	}
	if !waiting && len(b.letters) >= room {
		return
	}
	if what&(cameUp|wentDown) != 0 {
		l.news &^= cameUp | wentDown
	}
	if what&refused != 0 {
		l.from = from
	}
	l.news |= what
	b.letters[peer] = l
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// take empties the inbox.
func (b *inbox) take() map[netip.Addr]letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	letters := b.letters
	b.letters = make(map[netip.Addr]letter)
	return letters
}

var newsOf = map[engine.EventType]news{
	engine.PeerUp: cameUp, engine.PeerDown: wentDown, engine.PathChanged: newPath, engine.TooLarge: newPath,
	engine.ContactWanted: contactWanted, engine.Refused: refused,
}

// notify takes an event from the engine, which holds locks and must not wait.
func (n *Node) notify(e engine.Event) {
	if e.Type == engine.CopiesWanted {
		n.spares.want()
		return
	}
	n.inbox.put(e.Peer, newsOf[e.Type], e.Path.Remote)
	n.ipv4Event(e)
}
