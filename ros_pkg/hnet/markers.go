package hnet

import (
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/geometry_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/visualization_msgs"
)

// MarkerSettings are what the parameters say of markers.
type MarkerSettings struct {
	OwnFrame   string
	PeerFrame  string        // with {hostname} and {address} for a peer's own
	RingRadius float64       // m, where peers are drawn of whose frame nothing is known; 0 = they are not
	LineWidth  float64       // m
	TextHeight float64       // m
	Period     time.Duration // between two publications
}

// The namespaces of the markers.
const (
	linksNS  = "hnet/links"
	labelsNS = "hnet/labels"
)

// maxMarkedPeers bounds the peers that are drawn.
const maxMarkedPeers = 256

// Links draws the links between robots: for each peer a line from this robot to it and a label. It is for one goroutine.
type Links struct {
	ids   map[netip.Addr]int32
	free  []int32
	next  int32
	frame string // of the markers drawn last
}

// Locator finds the origin of a frame in another one.
type Locator func(frame, in string) (geometry_msgs.Point, bool)

// Markers draws the view, and deletes what was drawn of peers that are gone.
func (l *Links) Markers(now time.Time, v *View, s *Settings, locate Locator) *visualization_msgs.MarkerArray {
	m := &visualization_msgs.MarkerArray{}
	if l.frame != s.Markers.OwnFrame {
		for a := range l.ids {
			l.remove(m, a)
		}
		l.frame = s.Markers.OwnFrame
	}
	type place struct {
		peer *api.Peer
		at   geometry_msgs.Point
	}
	var places, ring []place
	for i := range v.Peers {
		p := &v.Peers[i]
		if len(places)+len(ring) >= maxMarkedPeers {
			break
		}
		if at, ok := locate(PeerFrame(s.Markers.PeerFrame, p), s.Markers.OwnFrame); ok {
			places = append(places, place{p, at})
		} else if s.Markers.RingRadius > 0 {
			ring = append(ring, place{peer: p})
		}
	}
	for i := range ring {
		angle := 2 * math.Pi * float64(i) / float64(len(ring))
		ring[i].at = geometry_msgs.Point{X: s.Markers.RingRadius * math.Cos(angle), Y: s.Markers.RingRadius * math.Sin(angle)}
	}
	placed := make(map[netip.Addr]bool, len(places)+len(ring))
	for i, p := range append(places, ring...) {
		placed[p.peer.Address] = true
		l.draw(m, now, v, s, p.peer, p.at, i < len(places))
	}
	for a := range l.ids {
		if !placed[a] {
			l.remove(m, a)
		}
	}
	return m
}

// draw adds a line from this robot to a peer, and its label. known tells that the peer is where it is drawn.
func (l *Links) draw(m *visualization_msgs.MarkerArray, now time.Time, v *View, s *Settings, p *api.Peer, at geometry_msgs.Point, known bool) {
	q, words := s.judge(p, now.Sub(v.peerSince(p.Address)))
	if !v.Up {
		q, words = QualityIdle, "hnetd does not answer"
	}
	color := colors[q]
	line := l.marker(s, linksNS, l.id(p.Address))
	line.Type = visualization_msgs.MarkerLineList
	line.Scale.X = s.Markers.LineWidth
	line.Color = color
	line.Points = []geometry_msgs.Point{{}, at}

	label := l.marker(s, labelsNS, line.ID)
	label.Type = visualization_msgs.MarkerTextViewFacing
	label.Scale.Z = s.Markers.TextHeight
	label.Color = color
	label.Pose.Position = geometry_msgs.Point{X: at.X, Y: at.Y, Z: at.Z + 2*s.Markers.TextHeight}
	label.Text = name(p) + "\n" + words
	if !known {
		label.Text += "\n(tf does not say where it is)"
	}
	m.Markers = append(m.Markers, *line, *label)
}

func (l *Links) marker(s *Settings, ns string, id int32) *visualization_msgs.Marker {
	m := visualization_msgs.NewMarker()
	m.Header.FrameID = s.Markers.OwnFrame // without a time: where the frame is now
	m.NS, m.ID, m.Action = ns, id, visualization_msgs.MarkerAdd
	m.FrameLocked = true
	m.Lifetime = builtin_interfaces.FromDuration(3*s.Markers.Period + time.Second) // they go when this node does
	return m
}

func (l *Links) id(a netip.Addr) int32 {
	id, ok := l.ids[a]
	if ok {
		return id
	}
	if n := len(l.free); n > 0 {
		id, l.free = l.free[n-1], l.free[:n-1]
	} else {
		id = l.next
		l.next++
	}
	if l.ids == nil {
		l.ids = make(map[netip.Addr]int32)
	}
	l.ids[a] = id
	return id
}

func (l *Links) remove(m *visualization_msgs.MarkerArray, a netip.Addr) {
	id := l.ids[a]
	delete(l.ids, a)
	l.free = append(l.free, id)
	for _, ns := range []string{linksNS, labelsNS} {
		d := visualization_msgs.NewMarker()
		d.Header.FrameID, d.NS, d.ID, d.Action = l.frame, ns, id, visualization_msgs.MarkerDelete
		m.Markers = append(m.Markers, *d)
	}
}

// PeerFrame fills a peer's names into a pattern: {hostname}, the address if it has none, and {address}, with _ for the colons.
func PeerFrame(pattern string, p *api.Peer) string {
	address := strings.ReplaceAll(text(p.Address), ":", "_")
	hostname := p.Hostname
	if hostname == "" {
		hostname = address
	}
	return strings.NewReplacer("{hostname}", hostname, "{address}", address).Replace(pattern)
}

var colors = map[Quality]std_msgs.ColorRGBA{
	QualityIdle:    {R: 0.6, G: 0.6, B: 0.6, A: 0.5},
	QualityGood:    {R: 0.2, G: 0.8, B: 0.3, A: 1},
	QualityFair:    {R: 0.95, G: 0.8, B: 0.1, A: 1},
	QualityPoor:    {R: 0.95, G: 0.45, B: 0.1, A: 1},
	QualitySeeking: {R: 0.2, G: 0.5, B: 0.95, A: 0.8},
	QualityLost:    {R: 0.9, G: 0.15, B: 0.15, A: 0.8},
}
