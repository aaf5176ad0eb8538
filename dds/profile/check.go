package profile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// MaxProfile bounds a profile that is checked, in bytes.
const MaxProfile = 1 << 20

// Problem is what keeps programs with a profile from talking over the overlay.
type Problem struct {
	Text  string
	Stale bool // the profile was good once: written anew it is again
}

var overlayAddress = regexp.MustCompile(`(?i)\bfc94:[0-9a-f:]+`)

var relayPort = regexp.MustCompile(fmt.Sprintf(`\b%d\b`, RelayPort))

// Check looks through a profile of either library, ours or one that somebody wrote: whether it is XML, whether it uses the overlay of this host,
// and whether it names all peers, or the relay. It returns nil if nothing is wrong.
func Check(text []byte, p Params) *Problem {
	if len(text) > MaxProfile {
		return &Problem{Text: fmt.Sprintf("it is larger than %d bytes", MaxProfile)}
	}
	content, err := words(text)
	if err != nil {
		return &Problem{Text: "it is no valid XML: " + err.Error()}
	}
	named := make(map[netip.Addr]bool)
	for _, s := range overlayAddress.FindAllString(content, -1) {
		if a, err := netip.ParseAddr(s); err == nil && identity.Prefix.Contains(a) {
			named[a] = true
		}
	}
	uses := named[p.Address] || strings.Contains(content, p.Interface)
	switch {
	case len(named) == 0 && !uses:
		return &Problem{Text: "it does not mention the overlay: neither " + p.Interface + " nor an address in " + identity.Prefix.String()}
	case !uses:
		return &Problem{Text: "it is for another address than this host's " + p.Address.String(), Stale: true}
	}
	if p.Relay {
		own := named[p.Address] || p.IPv4.IsValid() && strings.Contains(content, p.IPv4.String())
		if !own || !relayPort.MatchString(content) {
			return &Problem{Text: fmt.Sprintf("it does not name the discovery relay [%s]:%d", p.Address, RelayPort), Stale: true}
		}
		return nil
	}
	for _, peer := range p.Peers {
		if !named[peer] {
			return &Problem{Text: "it does not name the peer " + peer.String(), Stale: true}
		}
	}
	return nil
}

// words is the text and the attributes of an XML document, without comments.
func words(text []byte) (string, error) {
	var out strings.Builder
	d := xml.NewDecoder(bytes.NewReader(text))
	elements := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		switch t := token.(type) {
		case xml.StartElement:
			elements++
			for _, a := range t.Attr {
				out.WriteString(a.Value + "\n")
			}
		case xml.CharData:
			out.Write(t)
			out.WriteByte('\n')
		}
	}
	if elements == 0 {
		return "", errors.New("it has no element")
	}
	return out.String(), nil
}
