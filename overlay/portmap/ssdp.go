package portmap

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
)

// Where UPnP devices listen (UPnP Device Architecture section 1).
const ssdpPort = 1900

var ssdpGroup = netip.MustParseAddr("239.255.255.250")

// targets are the devices that are searched for. One of version 2 should answer to both, and not all do.
var targets = [...]string{
	"urn:schemas-upnp-org:device:InternetGatewayDevice:1",
	"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
}

// maxFound bounds an answer to a search, in bytes.
const maxFound = 2048

// appendSearch appends an M-SEARCH request.
func appendSearch(dst []byte, target string) []byte {
	dst = append(dst, "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: "...)
	dst = append(dst, target...)
	return append(dst, "\r\n\r\n"...)
}

// parseFound reads an answer to a search and returns where the device's description lies, which must be on the gateway.
func parseFound(b []byte, gateway netip.Addr) (*url.URL, bool) {
	if len(b) > maxFound {
		return nil, false
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(b), maxFound), nil)
	if err != nil {
		return nil, false
	}
	defer response.Body.Close()
	u, err := url.Parse(response.Header.Get("Location"))
	if err != nil || response.StatusCode != http.StatusOK || !lies(u, gateway) {
		return nil, false
	}
	return u, true
}

// lies tells whether a URL is one of plain HTTP on the gateway itself, named by its address.
func lies(u *url.URL, gateway netip.Addr) bool {
	host, err := netip.ParseAddr(u.Hostname())
	return err == nil && host == gateway && u.Scheme == "http" && u.User == nil && httpPort(u) != 0
}

// httpPort returns the port of a URL, 0 if it is none.
func httpPort(u *url.URL) uint16 {
	if u.Port() == "" {
		return 80
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(port)
}
