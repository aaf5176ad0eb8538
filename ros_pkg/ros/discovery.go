package ros

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rmw_dds_common"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/graph"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// discovery tells on ros_discovery_info which nodes this participant has, and hears what others tell.
type discovery struct {
	c   *Context
	own wire.GuidPrefix
	w   writer
	r   reader

	telling sync.Mutex // no callback takes it
	batch   int        // while above 0 nothing is told
	last    string     // what was told last

	mu      sync.Mutex
	layouts map[wire.GUID]graph.Layout // of writers that are matched
	refused map[wire.GuidPrefix]bool   // warned about
	doubles map[string]bool            // names of own nodes that others have, too: warned about
}

// maxRefused bounds discovery.refused: who comes later is not warned about.
const maxRefused = 256

func (d *discovery) open(c *Context) error {
	d.c, d.own = c, c.dom.GUID().Prefix
	d.layouts, d.refused, d.doubles = map[wire.GUID]graph.Layout{}, map[wire.GuidPrefix]bool{}, map[string]bool{}
	info := new(rmw_dds_common.ParticipantEntitiesInfo)
	qos := QoSState.rtps()
	data := typeHashData(info.ROSTypeHash())
	var err error
	d.w, err = c.dom.NewWriter(rtps.WriterConfig{
		Topic: names.DiscoveryTopic, Type: names.DDSType(info.ROSType()), QoS: qos, UserData: data,
		// One sample has both forms; each reader gets the one it understands, when it is sent again too.
		PayloadFor: func(sample []byte, reader *rtps.Endpoint) []byte {
			return graph.Pick(sample, graph.LayoutOf(reader.UserData))
		},
	})
	if err != nil {
		return err
	}
	d.r, err = c.dom.NewReader(rtps.ReaderConfig{
		Topic: names.DiscoveryTopic, Type: names.DDSType(info.ROSType()), QoS: qos, UserData: data,
		Matched: d.matched, Deliver: d.heard,
	})
	if err != nil {
		return err
	}
	d.tell()
	return nil
}

// tell writes what the participant's nodes are now, if that is new.
func (d *discovery) tell() {
	d.telling.Lock()
	defer d.telling.Unlock()
	if d.batch > 0 {
		return
	}
	info := graph.Info{Participant: d.c.dom.GUID()}
	d.c.mu.Lock()
	for _, n := range d.c.nodes {
		info.Nodes = append(info.Nodes, n.entities())
	}
	if len(info.Nodes) == 0 {
		d.c.book.Remove(d.own)
	} else {
		d.c.book.Set(info)
	}
	d.c.wake()
	d.c.mu.Unlock()
	if len(info.Nodes) == 0 && d.last == "" {
		return
	}
	sample := info.Both()
	if string(sample) == d.last {
		return
	}
	d.last = string(sample)
	if _, err := d.w.Write(sample, rtps.WriteOptions{}); err != nil {
		d.c.log.Debug("cannot tell the nodes of this program", "error", err)
	}
}

// hold delays telling until the returned function is called, so that a node is told once with all that it begins with.
func (d *discovery) hold() (release func()) {
	d.telling.Lock()
	d.batch++
	d.telling.Unlock()
	return func() {
		d.telling.Lock()
		d.batch--
		d.telling.Unlock()
		d.tell()
	}
}

func (d *discovery) matched(e rtps.Endpoint, matched bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if matched {
		d.layouts[e.GUID] = graph.LayoutOf(e.UserData)
	} else {
		delete(d.layouts, e.GUID)
	}
}

// heard takes what a participant tells.
func (d *discovery) heard(s rtps.Sample) {
	from := s.Writer.Prefix
	if from == d.own {
		return
	}
	if s.Status != rtps.Alive {
		d.c.mu.Lock()
		d.c.book.Remove(from)
		d.c.wake()
		d.c.mu.Unlock()
		return
	}
	d.mu.Lock()
	guess, ok := d.layouts[s.Writer]
	d.mu.Unlock()
	if !ok {
		guess = graph.Iron
	}
	info, _, err := graph.Parse(s.Payload, from, guess)
	if err == nil {
		info.Participant.Prefix = from
		d.c.mu.Lock()
		room := d.c.book.Set(info)
		d.c.wake()
		own := slices.Clone(d.c.nodes)
		d.c.mu.Unlock()
		if room {
			d.compare(own, info.Nodes, s.From)
			return
		}
		err = fmt.Errorf("there are too many nodes in this domain to know them all")
	}
	d.mu.Lock()
	warn := !d.refused[from] && len(d.refused) < maxRefused
	if warn {
		d.refused[from] = true
	}
	d.mu.Unlock()
	if warn {
		d.c.log.Warn("the nodes of a participant stay unknown", "participant", from, "address", s.From, "error", err)
	}
}

// compare warns of others' nodes that are called as own ones are, once for each name.
func (d *discovery) compare(own []*Node, others []graph.Node, from netip.AddrPort) {
	for _, n := range own {
		name := n.FullName()
		if !slices.ContainsFunc(others, func(o graph.Node) bool { return o.Full() == name }) {
			continue
		}
		d.mu.Lock()
		warned := d.doubles[name]
		d.doubles[name] = true
		d.mu.Unlock()
		if !warned {
			n.log.Warn("another node has this node's name, and tools cannot tell them apart", "node", name, "address", from,
				"fix", "give one of them another name or namespace: --ros-args -r __node:=NAME or -r __ns:=/NAMESPACE")
		}
	}
}

func typeHashData(hash string) []byte { return []byte(graph.TypeHash + "=" + hash + ";") }
