package portmap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

func address(s string) netip.Addr { return netip.MustParseAddr(s) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var someNonce = nonce{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

// TestRequests holds the layouts of RFC 6887 figures 2 and 9 and of RFC 6886 sections 3.2 and 3.3.
func TestRequests(t *testing.T) {
	four := address("192.168.1.7")
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"announce": {appendAnnounce(nil, four), "02000000 00000000 00000000000000000000ffffc0a80107"},
		"map": {appendMap(nil, four, someNonce, 5582, netip.MustParseAddrPort("20.0.0.1:5583"), 7200), `
			02010000 00001c20 00000000000000000000ffffc0a80107
			0102030405060708090a0b0c 11000000 15ce 15cf 00000000000000000000ffff14000001`},
		"map anywhere": {appendMap(nil, four, someNonce, 5582, netip.AddrPort{}, 0), `
			02010000 00000000 00000000000000000000ffffc0a80107
			0102030405060708090a0b0c 11000000 15ce 0000 00000000000000000000ffff00000000`},
		"pinhole": {appendMap(nil, address("2001:db8::7"), someNonce, 5582, netip.AddrPortFrom(netip.Addr{}, 5582), 7200), `
			02010000 00001c20 20010db8000000000000000000000007
			0102030405060708090a0b0c 11000000 15ce 15ce 00000000000000000000000000000000`},
		"outer address, NAT-PMP": {appendExternalPMP(nil), "0000"},
		"map, NAT-PMP":           {appendMapPMP(nil, 5582, 5583, 7200), "0001 0000 15ce 15cf 00001c20"},
	} {
		if want := unhex(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s: %x, want %x", name, c.got, want)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	const mapping = `0102030405060708090a0b0c 11000000 15ce 15cf 00000000000000000000ffff14000001`
	const zeros = "000000000000000000000000"
	mapped := answer{version: 2, op: opMap, epoch: 9, lifetime: 7200, nonce: someNonce, protocol: 17, internal: 5582,
		external: netip.MustParseAddrPort("20.0.0.1:5583"), mapped: true}
	denied := mapped
	denied.result = 2
	for name, c := range map[string]struct {
		b    string
		want answer
		ok   bool
	}{
		"map":                  {"02810000 00001c20 00000009 " + zeros + mapping, mapped, true},
		"map, with an option":  {"02810000 00001c20 00000009 " + zeros + mapping + "01000000", mapped, true},
		"map denied":           {"02810002 00001c20 00000009 " + zeros + mapping, denied, true},
		"map denied, short":    {"02810002 00001c20 00000009 " + zeros, answer{version: 2, op: opMap, result: 2, epoch: 9, lifetime: 7200}, true},
		"map, short":           {"02810000 00001c20 00000009 " + zeros, answer{}, false},
		"not of four":          {"02810000 00001c20 00000009 " + zeros + mapping + "00", answer{}, false},
		"a request":            {"02010000 00001c20 00000009 " + zeros + mapping, answer{}, false},
		"announce":             {"02800000 00000000 00000009 " + zeros, answer{version: 2, epoch: 9}, true},
		"announce, short":      {"02800000 00000000 00000009", answer{}, false},
		"another version":      {"01810001", answer{version: 1, op: 1, result: 1}, true},
		"another, not saying":  {"01810000 00001c20 00000009", answer{}, false},
		"NAT-PMP, no PCP":      {"00810001 00000009", answer{op: 1, result: 1, epoch: 9}, true},
		"NAT-PMP, no time":     {"00810001", answer{op: 1, result: 1}, true},
		"NAT-PMP outer":        {"00800000 00000009 14000001", answer{epoch: 9, external: netip.AddrPortFrom(address("20.0.0.1"), 0)}, true},
		"NAT-PMP outer, short": {"00800000 00000009 140000", answer{}, false},
		"NAT-PMP map": {"00810000 00000009 15ce15cf 00001c20", answer{op: opMap, epoch: 9, lifetime: 7200, internal: 5582,
			external: netip.AddrPortFrom(netip.Addr{}, 5583), mapped: true}, true},
		"NAT-PMP map, short": {"00810000 00000009 15ce15cf 00001c", answer{}, false},
		"NAT-PMP other":      {"00850000 00000009 15ce15cf 00001c20", answer{}, false},
		"nothing":            {"", answer{}, false},
		"little":             {"028100", answer{}, false},
	} {
		if got, ok := parseAnswer(unhex(t, c.b)); ok != c.ok || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, ok, c.want)
		}
	}
	if _, ok := parseAnswer(append(unhex(t, "02800000"), make([]byte, pcpMaxLen)...)); ok {
		t.Error("an answer longer than the RFC allows is taken")
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(unhex(f, "02810000 00001c20 00000009 000000000000000000000000 0102030405060708090a0b0c 11000000 15ce 15cf 00000000000000000000ffff14000001"))
	f.Add(unhex(f, "00810000 00000009 15ce15cf 00001c20"))
	f.Add(unhex(f, "00800000 00000009 14000001"))
	f.Add(unhex(f, "01810001"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseAnswer(b)
		if !ok {
			if a != (answer{}) {
				t.Fatalf("%+v, and not taken", a)
			}
			return
		}
		if len(b) > pcpMaxLen || b[0] != a.version || b[1] != a.op|opAnswer {
			t.Fatalf("%x: %+v", b, a)
		}
		if a.mapped && a.version == pcpVersion {
			// What we ask for with the same contents reads the same.
			again := appendMap(nil, netip.IPv6Unspecified(), a.nonce, a.internal, a.external, a.lifetime)
			again[1] |= opAnswer
			again[3] = byte(a.result)
			binary.BigEndian.PutUint32(again[8:], a.epoch)
			again[36] = a.protocol
			if same, ok := parseAnswer(again); !ok || same != a {
				t.Fatalf("%+v reads %+v when written again", a, same)
			}
		}
	})
}

func TestEpoch(t *testing.T) {
	start := time.Unix(1e9, 0)
	for name, c := range map[string]struct {
		ours   time.Duration
		theirs int64
		kept   bool
	}{
		"in step":              {time.Hour, 3600, true},
		"at once":              {0, 0, true},
		"a second back":        {0, -1, true},
		"two seconds back":     {0, -2, false},
		"slow within reason":   {time.Hour, 3400, true},
		"too slow":             {time.Hour, 3300, false},
		"fast within reason":   {time.Hour, 3800, true},
		"too fast":             {time.Hour, 3900, false}, // as after a suspension, which our clock slept through
		"restarted":            {time.Minute, -1000, false},
		"restarted just now":   {4 * time.Second, 0, false},
		"our clock went wrong": {-time.Hour, 0, true},
	} {
		var e epoch
		if !e.note(start, 10000) {
			t.Fatal("the first time is not believed")
		}
		if kept := e.note(start.Add(c.ours), uint32(10000+c.theirs)); kept != c.kept {
			t.Errorf("%s: kept %v, want %v", name, kept, c.kept)
		}
		if !e.note(start.Add(c.ours), uint32(10000+c.theirs)) {
			t.Errorf("%s: the same again is a restart", name)
		}
	}
}

func TestDouble(t *testing.T) {
	for s, want := range map[string]bool{
		"20.0.0.1": false, "2001:4860::1": false, "::ffff:20.0.0.1": false, "100.128.0.1": false,
		"10.1.2.3": true, "172.16.0.1": true, "192.168.1.1": true, "100.64.0.1": true, "100.127.255.255": true, "0.0.0.0": true,
		"::": true, "127.0.0.1": true, "169.254.1.1": true, "fc94::1": true, "fd00::1": true, "fe80::1": true, "224.0.0.1": true,
		"255.255.255.255": true, "192.0.0.2": true, "::ffff:10.0.0.1": true, "0.1.2.3": true,
	} {
		if got := double(address(s)); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
	if !double(netip.Addr{}) {
		t.Error("no address is one of the Internet")
	}
}

func found(location string) string {
	return "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: " + targets[0] + "\r\nEXT:\r\nLOCATION: " + location + "\r\n\r\n"
}

func TestParseFound(t *testing.T) {
	gateway := address("192.168.1.1")
	for b, want := range map[string]string{
		found("http://192.168.1.1:5000/rootDesc.xml"):                                       "http://192.168.1.1:5000/rootDesc.xml",
		found("http://192.168.1.1/x"):                                                       "http://192.168.1.1/x",
		strings.ReplaceAll(found("http://192.168.1.1/x"), "\r\n", "\n"):                     "http://192.168.1.1/x",
		strings.Replace(found("http://192.168.1.1/x"), "LOCATION", "Location", 1):           "http://192.168.1.1/x",
		found("http://192.168.1.2:5000/x"):                                                  "",
		found("https://192.168.1.1:5000/x"):                                                 "",
		found("http://192.168.1.1@evil.example/x"):                                          "",
		found("http://user@192.168.1.1/x"):                                                  "",
		found("http://router/x"):                                                            "",
		found("http://192.168.1.1:0/x"):                                                     "",
		found("http://192.168.1.1:99999/x"):                                                 "",
		found("file:///etc/passwd"):                                                         "",
		found(""):                                                                           "",
		strings.Replace(found("http://192.168.1.1/x"), "200 OK", "302 Found", 1):            "",
		"M-SEARCH * HTTP/1.1\r\nLOCATION: http://192.168.1.1/x\r\n\r\n":                     "",
		"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/x\r\n\r\n":                       "",
		found("http://192.168.1.1/" + strings.Repeat("x", maxFound)):                        "",
		"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nLocation: http://192.168.1.1/x\r\n\r\n": "http://192.168.1.1/x",
		"": "",
	} {
		u, ok := parseFound([]byte(b), gateway)
		if ok != (want != "") || ok && u.String() != want {
			t.Errorf("%.120q: %v, %v; want %q", b, u, ok, want)
		}
	}
}

func FuzzParseFound(f *testing.F) {
	gateway := address("192.168.1.1")
	f.Add([]byte(found("http://192.168.1.1:5000/rootDesc.xml")))
	f.Add([]byte(found("http://192.168.1.1@x/")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, ok := parseFound(b, gateway); ok && !(u.Scheme == "http" && u.Hostname() == "192.168.1.1") {
			t.Fatalf("%q leads to %v", b, u)
		}
	})
}

func describe(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseDescription(t *testing.T) {
	gateway := address("192.168.1.1")
	location, _ := url.Parse("http://192.168.1.1:5000/rootDesc.xml")
	two := describe(t, "igd2.xml")
	ip := func(version, at string) string {
		return "urn:schemas-upnp-org:service:WANIPConnection:" + version + " " + at
	}
	ppp := "urn:schemas-upnp-org:service:WANPPPConnection:1 http://192.168.1.1:5000/ctl/PPPConn"
	for name, c := range map[string]struct {
		text string
		want []string
		bad  bool
	}{
		"version 2":       {text: two, want: []string{ip("2", "http://192.168.1.1:5000/ctl/IPConn"), ppp}},
		"version 1":       {text: strings.ReplaceAll(two, "WANIPConnection:2", "WANIPConnection:1"), want: []string{ip("1", "http://192.168.1.1:5000/ctl/IPConn"), ppp}},
		"without a slash": {text: strings.ReplaceAll(two, "/ctl/", "ctl/"), want: []string{ip("2", "http://192.168.1.1:5000/ctl/IPConn"), ppp}},
		"Latin 1":         {text: strings.Replace(two, `version="1.0"`, `version="1.0" encoding="ISO-8859-1"`, 1), want: []string{ip("2", "http://192.168.1.1:5000/ctl/IPConn"), ppp}},
		"another base":    {text: strings.Replace(two, "<device>", "<URLBase>http://192.168.1.1:80/</URLBase><device>", 1), want: []string{ip("2", "http://192.168.1.1:80/ctl/IPConn"), strings.Replace(ppp, "5000", "80", 1)}},
		"a base elsewhere": {text: strings.Replace(two, "<device>", "<URLBase>http://10.9.9.9/</URLBase><device>", 1),
			want: []string{ip("2", "http://192.168.1.1:5000/ctl/IPConn"), ppp}},
		"controlled elsewhere": {text: strings.Replace(two, "/ctl/IPConn", "http://10.9.9.9/ctl/IPConn", 1), want: []string{ppp}},
		"no service":           {text: "<root><device></device></root>"},
		"not XML":              {text: "it works!", bad: true},
		"cut off":              {text: two[:len(two)/2], bad: true},
		"deep":                 {text: "<root>" + strings.Repeat("<device><deviceList>", 20000), bad: true},
	} {
		got, err := parseDescription(strings.NewReader(c.text), location, gateway)
		var list []string
		for _, s := range got {
			list = append(list, s.kind+" "+s.control.String())
		}
		if (err != nil) != c.bad || strings.Join(list, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %q, %v; want %q", name, list, err, c.want)
		}
	}
}

func FuzzParseDescription(f *testing.F) {
	gateway := address("192.168.1.1")
	location, _ := url.Parse("http://192.168.1.1:5000/rootDesc.xml")
	f.Add(describe(f, "igd2.xml"))
	f.Add("<root><device><serviceList><service><serviceType>" + services[1] + "</serviceType><controlURL>//x/</controlURL></service></serviceList></device></root>")
	f.Fuzz(func(t *testing.T, text string) {
		found, _ := parseDescription(strings.NewReader(text), location, gateway)
		if len(found) > maxServices {
			t.Fatal("too many services")
		}
		for _, s := range found {
			if s.control.Scheme != "http" || s.control.Hostname() != "192.168.1.1" {
				t.Fatalf("controlled at %v", &s.control)
			}
		}
	})
}

func TestBrief(t *testing.T) {
	text := brief(&refusal{"a\x1b[31m\nb\xff" + strings.Repeat("ü", 1000)})
	if !strings.HasPrefix(text, "a [31m b?ü") || len([]rune(text)) != 161 {
		t.Errorf("%q", text)
	}
}
