package machine

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

type Config struct {
	Domain             int
	Prefix             wire.GuidPrefix
	Name               string
	UserData           []byte
	StaticPeers        []netip.Addr
	PeerIndices        int
	Multicast          bool
	MaxMessage         int
	MaxSample          int
	Lease              time.Duration
	Limits             Limits
	Localhost          bool
	Random             *rand.Rand
	Log                *slog.Logger
	Ports              Ports
	Index              int
}
type Limits struct{ Participants, Endpoints int }
type Counters struct{}
type Call struct{}
func (c *Call) Do() {}
type Output struct { Datagrams []Datagram; Calls []Call }
func (o *Output) Release() {}
type Machine struct{ timers timers }
func New(Config) *Machine { return &Machine{} }
func (m *Machine) Take() *Output { return &Output{} }
func (m *Machine) Prefix() (p wire.GuidPrefix) { return }
func (m *Machine) Graph() (g Graph) { return }
func (m *Machine) Counters() (g Counters) { return }
func (m *Machine) Subscribe(func(GraphEvent)) { }
func (m *Machine) Close() { }
type Writer struct{ Progress func() }
func (m *Machine) NewWriter(now time.Time, c WriterConfig) (*Writer, error) { return &Writer{}, nil }
func (w *Writer) GUID() (g wire.GUID) { return }
func (w *Writer) Write(now time.Time, payload []byte, o *WriteOptions) (wire.SequenceNumber, error) { return 0, errors.New("not yet")}
func (w *Writer) Dispose(now time.Time) (wire.SequenceNumber, error) { return 0, nil}
func (w *Writer) Matched() []Endpoint { return nil }
func (w *Writer) Last() wire.SequenceNumber { return 0 }
func (w *Writer) Acked(wire.SequenceNumber) bool { return false }
func (w *Writer) Close(now time.Time) {}
type Reader struct{}
func (m *Machine) NewReader(now time.Time, c ReaderConfig) (*Reader, error) { return &Reader{}, nil }
func (w *Reader) GUID() (g wire.GUID) { return }
func (w *Reader) Matched() []Endpoint { return nil }
func (w *Reader) Close(now time.Time) {}
