package portmap

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// fakes counts the gateways on loopback, each of which has an address of its own, and with it the real ports.
var fakes atomic.Uint32

// loopback returns a gateway on loopback that nothing listens at yet.
func loopback(t *testing.T) Gateway {
	t.Helper()
	n := fakes.Add(1)
	return Gateway{Addr: netip.AddrFrom4([4]byte{127, 77, byte(n >> 8), byte(n)}), Local: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
}

// serve answers datagrams to a port of the gateway by reply until the end of the test; nil is no answer.
func serve(t *testing.T, g Gateway, port uint16, reply func(b []byte) [][]byte) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.Addr, port)))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { conn.Close(); running.Wait() })
	running.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, answer := range reply(b[:n]) {
				_, _ = conn.WriteToUDPAddrPort(answer, from)
			}
		}
	})
	return conn
}

// fakePCP is a PCP server.
type fakePCP struct {
	mu      sync.Mutex
	epoch   uint32
	result  byte                  // of the next MAP
	taken   uint16                // a port that is given away
	lose    int                   // answers that are lost first
	deaf    int                   // requests that are lost first
	forge   func([]byte) [][]byte // what else comes, before the answer
	mapped  map[uint16]netip.AddrPort
	asked   []string
	outer   netip.Addr
	version byte // that is spoken; 0 = this one
}

func (f *fakePCP) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

func (f *fakePCP) reply(b []byte) [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf > 0 {
		f.deaf--
		return nil
	}
	if len(b) < pcpHeaderLen || b[0] != pcpVersion {
		return nil
	}
	answer := bytes.Clone(b)
	answer[1] |= opAnswer
	binary.BigEndian.PutUint32(answer[8:], f.epoch)
	clear(answer[12:24])
	if f.version != 0 {
		answer[0], answer[3] = f.version, resultUnsupportedVersion
		return [][]byte{answer}
	}
	switch {
	case b[1] == opAnnounce:
		f.asked = append(f.asked, "announce")
	case len(b) < pcpMapLen:
		return nil
	case binary.BigEndian.Uint32(b[4:]) == 0:
		f.asked = append(f.asked, "delete")
		delete(f.mapped, binary.BigEndian.Uint16(b[40:]))
	case f.result != 0:
		f.asked = append(f.asked, "map")
		answer[3] = f.result
	default:
		f.asked = append(f.asked, "map")
		port := binary.BigEndian.Uint16(b[42:])
		if port == f.taken || port == 0 {
			port = 40000
		}
		outer := f.outer.As16()
		copy(answer[44:], outer[:])
		binary.BigEndian.PutUint16(answer[42:], port)
		if f.mapped == nil {
			f.mapped = map[uint16]netip.AddrPort{}
		}
		f.mapped[binary.BigEndian.Uint16(b[40:])] = netip.AddrPortFrom(f.outer, port)
	}
	var all [][]byte
	if f.forge != nil {
		all = f.forge(answer)
	}
	if f.lose > 0 {
		f.lose--
		return all
	}
	return append(all, answer)
}

// fakePMP is a NAT-PMP server.
type fakePMP struct {
	mu     sync.Mutex
	epoch  uint32
	result uint16 // of the next map
	taken  uint16
	silent bool // to other versions, against the RFC
	mapped map[uint16]uint16
	outer  netip.Addr
}

func (f *fakePMP) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

func (f *fakePMP) reply(b []byte) [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	head := func(op byte, result uint16) []byte {
		answer := binary.BigEndian.AppendUint16([]byte{pmpVersion, op | opAnswer}, result)
		return binary.BigEndian.AppendUint32(answer, f.epoch)
	}
	switch {
	case len(b) < 2:
	case b[0] != pmpVersion:
		if !f.silent {
			return [][]byte{head(b[1], resultUnsupportedVersion)}
		}
	case b[1] == opExternal:
		return [][]byte{append(head(opExternal, 0), f.outer.AsSlice()...)}
	case b[1] == opMap && len(b) == 12:
		if f.result != 0 {
			return [][]byte{head(opMap, f.result)}
		}
		port, lifetime := binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint32(b[8:])
		if port == f.taken {
			port = 40000
		}
		if f.mapped == nil {
			f.mapped = map[uint16]uint16{}
		}
		inner := binary.BigEndian.Uint16(b[4:])
		f.mapped[inner] = port
		if lifetime == 0 {
			delete(f.mapped, inner)
		}
		answer := append(head(opMap, 0), b[4:6]...)
		answer = binary.BigEndian.AppendUint16(answer, port)
		return [][]byte{binary.BigEndian.AppendUint32(answer, lifetime)}
	}
	return nil
}

// entry is a mapping of a fakeIGD.
type entry struct{ client, port, lease string }

// fakeIGD is a UPnP Internet gateway device.
type fakeIGD struct {
	gateway Gateway
	server  *httptest.Server

	mu      sync.Mutex
	outer   string
	entries map[string]entry
	calls   []string
	// How it is special.
	permanent int // the error for leases, 0 = none
	same      bool
	denied    int
	strict    bool // a mapping is made once
	hook      func(http.ResponseWriter, *http.Request) bool
}

func newFakeIGD(t *testing.T, g Gateway) *fakeIGD {
	t.Helper()
	f := &fakeIGD{gateway: g, outer: "20.0.0.1", entries: map[string]entry{}}
	listener, err := net.Listen("tcp4", netip.AddrPortFrom(g.Addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	f.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: f}}
	f.server.Start()
	t.Cleanup(f.server.Close)
	return f
}

// announce makes it answer searches with a location.
func (f *fakeIGD) announce(t *testing.T, location string) {
	serve(t, f.gateway, ssdpPort, func(b []byte) [][]byte {
		if !bytes.HasPrefix(b, []byte("M-SEARCH * HTTP/1.1\r\n")) || !bytes.Contains(b, []byte(`MAN: "ssdp:discover"`)) {
			return nil
		}
		return [][]byte{[]byte("junk"), []byte(found("http://127.0.0.1:1/elsewhere")), []byte(found(location))}
	})
}

func (f *fakeIGD) set(change func()) { f.mu.Lock(); defer f.mu.Unlock(); change() }

func (f *fakeIGD) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hook != nil && f.hook(w, r) {
		return
	}
	if r.Method == http.MethodGet {
		http.ServeFile(w, r, "testdata/igd2.xml")
		return
	}
	action := strings.Trim(r.Header.Get("SOAPAction"), `"`)
	action = action[strings.IndexByte(action, '#')+1:]
	f.calls = append(f.calls, action)
	var in struct {
		Body struct {
			Action struct {
				NewExternalPort, NewProtocol, NewInternalPort, NewInternalClient, NewLeaseDuration string
			} `xml:",any"`
		}
	}
	if body, err := io.ReadAll(r.Body); err != nil || xml.Unmarshal(body, &in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a := in.Body.Action
	code, out := 0, ""
	old, exists := f.entries[a.NewExternalPort]
	switch action {
	case "GetExternalIPAddress":
		out = "<NewExternalIPAddress>" + f.outer + "</NewExternalIPAddress>"
	case "GetSpecificPortMappingEntry":
		if code = upnpNoSuchEntry; exists {
			code, out = 0, fmt.Sprintf("<NewInternalPort>%s</NewInternalPort><NewInternalClient>%s</NewInternalClient><NewLeaseDuration>%s</NewLeaseDuration>", old.port, old.client, old.lease)
		}
	case "DeletePortMapping":
		if code = upnpNoSuchEntry; exists {
			code = 0
			delete(f.entries, a.NewExternalPort)
		}
	case "AddPortMapping":
		switch {
		case f.denied != 0:
			code = f.denied
		case a.NewProtocol != "UDP":
			code = upnpInvalidArgs
		case f.permanent != 0 && a.NewLeaseDuration != "0":
			code = f.permanent
		case f.same && a.NewExternalPort != a.NewInternalPort:
			code = upnpSamePort
		case exists && (f.strict || old.client != a.NewInternalClient):
			code = upnpConflict
		default:
			f.entries[a.NewExternalPort] = entry{a.NewInternalClient, a.NewInternalPort, a.NewLeaseDuration}
		}
	default:
		code = 401
	}
	if code != 0 {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode>`+
			`<faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode>`+
			`</UPnPError></detail></s:Fault></s:Body></s:Envelope>`, code)
		return
	}
	fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:%sResponse xmlns:u="x">%s</u:%sResponse></s:Body></s:Envelope>`,
		action, out, action)
}
