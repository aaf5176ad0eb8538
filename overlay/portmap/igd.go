package portmap

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/soap"
)

const (
	maxBody     = 128 << 10 // bytes of a description or an answer
	maxServices = 4         // that are asked, of one device
	maxTries    = 6         // with other ports or lease times, for one mapping
	httpTimeout = 5 * time.Second

	// igdTimeout bounds all questions of one attempt to map.
	igdTimeout = 30 * time.Second

	// description is what the mapping is called in the router's lists.
	description = "hnet"
)

// services are those that map ports, the newest first.
var services = []string{
	"urn:schemas-upnp-org:service:WANIPConnection:2",
	"urn:schemas-upnp-org:service:WANIPConnection:1",
	"urn:schemas-upnp-org:service:WANPPPConnection:1",
}

// service is where a router maps ports.
type service struct {
	kind    string
	control url.URL
}

// igd is the client of a UPnP Internet gateway device.
type igd struct {
	gateway   Gateway
	client    http.Client
	service   service
	permanent bool // the router grants no other leases

	outer uint16 // the port that is or may be mapped; 0 = none
	gap   time.Duration
}

func newIGD(g Gateway) *igd {
	return &igd{gateway: g, client: boundedClient(g), gap: searchGap}
}

// find looks for the device and maps.
func (c *igd) find(ctx context.Context, port, suggest uint16) (grant, error) {
	ctx, cancel := context.WithTimeout(ctx, igdTimeout)
	defer cancel()
	locations, err := search(ctx, c.gateway, c.gap)
	if err != nil {
		return grant{}, err
	}
	err = errSilent
	for _, l := range locations {
		if err = c.choose(ctx, l); err == nil {
			return c.add(ctx, port, suggest)
		}
	}
	return grant{}, err
}

// renew maps again, by the service that is known or, if that does not answer, by one searched anew: a router that restarts may
// have moved it.
func (c *igd) renew(ctx context.Context, held grant) (grant, error) {
	ctx, cancel := context.WithTimeout(ctx, igdTimeout)
	defer cancel()
	g, err := c.add(ctx, held.internal, held.external.Port())
	if err == nil || isRefusal(err) || ctx.Err() != nil {
		return g, err
	}
	return c.find(ctx, held.internal, held.external.Port())
}

// choose takes the service of a device that has an outer address, or the first if none has.
func (c *igd) choose(ctx context.Context, location *url.URL) error {
	offered, err := c.describe(ctx, location)
	if err != nil {
		return err
	}
	if len(offered) == 0 {
		return &refusal{"the router has UPnP, but not for port mapping"}
	}
	c.service = offered[0]
	for _, s := range offered {
		if outer, err := c.external(ctx, s); err == nil && !outer.IsUnspecified() {
			c.service = s
			break
		}
	}
	return nil
}

// describe fetches a device's description and returns the services in it that lie on the gateway.
func (c *igd) describe(ctx context.Context, location *url.URL) ([]service, error) {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("cannot fetch the router's description: %s", brief(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cannot fetch the router's description: HTTP %d", response.StatusCode)
	}
	return parseDescription(response.Body, location, c.gateway.Addr)
}

// parseDescription reads a device description (UPnP Device Architecture section 2.3).
func parseDescription(r io.Reader, location *url.URL, gateway netip.Addr) ([]service, error) {
	decoder := xml.NewDecoder(r)
	decoder.DefaultSpace = goupnp.DeviceXMLNamespace
	// What matters in it is ASCII in whatever it says to be.
	decoder.CharsetReader = func(_ string, input io.Reader) (io.Reader, error) { return input, nil }
	var root goupnp.RootDevice
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("cannot read the router's description: %s", brief(err))
	}
	base := location
	if root.URLBaseStr != "" {
		if u, err := url.Parse(strings.TrimSpace(root.URLBaseStr)); err == nil && lies(u, gateway) {
			base = u
		}
	}
	root.SetURLBase(base)
	var all []service
	for _, kind := range services {
		for _, s := range root.Device.FindService(kind) {
			found := service{kind: kind, control: s.ControlURL.URL}
			if s.ControlURL.Ok && lies(&found.control, gateway) && !slices.Contains(all, found) && len(all) < maxServices {
				all = append(all, found)
			}
		}
	}
	return all, nil
}

// call performs an action. A fault that the router states becomes a refusal, whose code is returned too.
func (c *igd) call(ctx context.Context, s service, action string, in, out any) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	client := soap.NewSOAPClient(s.control)
	client.HTTPClient = c.client
	err = client.PerformActionCtx(ctx, s.kind, action, in, out)
	if fault, ok := errors.AsType[*soap.SOAPFaultError](err); ok {
		code = fault.Detail.UPnPError.Errorcode
		why, known := upnpRefusals[code]
		if !known {
			why = fmt.Sprintf("the router refuses with UPnP error %d", code)
		}
		return code, &refusal{why}
	}
	if err != nil {
		return 0, fmt.Errorf("cannot ask the router by UPnP: %s", brief(err))
	}
	return 0, nil
}

// brief makes one short line of an error that may quote the router at any length.
func brief(err error) string {
	text := []rune(strings.ToValidUTF8(err.Error(), "?"))
	for i, r := range text {
		if !unicode.IsPrint(r) {
			text[i] = ' '
		}
	}
	const enough = 160
	if len(text) > enough {
		text = append(text[:enough], '…')
	}
	return string(text)
}

// Errors of UPnP (WANIPConnection:2 section 2.5) that something is done about.
const (
	upnpInvalidArgs    = 402
	upnpActionFailed   = 501
	upnpNoSuchEntry    = 714
	upnpConflict       = 718
	upnpSamePort       = 724
	upnpOnlyPermanent  = 725
	upnpOtherMechanism = 729
)

var upnpRefusals = map[int]string{
	401:                "the router maps no ports by UPnP",
	upnpInvalidArgs:    "the router does not accept what UPnP needs to map a port",
	upnpActionFailed:   "the router failed to map the port",
	606:                "the router does not allow it: port mapping is switched off there or not for this host",
	upnpNoSuchEntry:    "the router has lost the mapping",
	upnpConflict:       "the router has given the port to another host",
	upnpSamePort:       "the router maps a port only to the same port, which it has given to another host",
	upnpOnlyPermanent:  "the router maps ports without an end only",
	728:                "the router has no free mappings at present",
	upnpOtherMechanism: "the router has given the port away by PCP or by hand",
}

// external asks for the router's outer address; a router that is not connected has none or the unspecified one.
func (c *igd) external(ctx context.Context, s service) (netip.Addr, error) {
	var out struct{ NewExternalIPAddress string }
	if _, err := c.call(ctx, s, "GetExternalIPAddress", nil, &out); err != nil {
		return netip.Addr{}, err
	}
	text := strings.TrimSpace(out.NewExternalIPAddress)
	if text == "" {
		return netip.IPv4Unspecified(), nil
	}
	outer, err := netip.ParseAddr(text)
	if err != nil || !outer.Is4() {
		return netip.Addr{}, errors.New("the router's outer address by UPnP is none")
	}
	return outer, nil
}

type endpoint struct {
	NewRemoteHost   string
	NewExternalPort string
	NewProtocol     string
}

func outerPort(port uint16) endpoint {
	return endpoint{NewExternalPort: strconv.Itoa(int(port)), NewProtocol: "UDP"}
}

// add maps a port, the suggested one if it is free, else any.
func (c *igd) add(ctx context.Context, port, suggest uint16) (grant, error) {
	outer, err := c.external(ctx, c.service)
	if err != nil {
		return grant{}, err
	}
	conflict := false
	for range maxTries {
		lease := asked
		if c.permanent {
			lease = 0
		}
		before := c.outer
		c.outer = suggest
		code, e := c.addPort(ctx, port, suggest, lease)
		if err = e; err == nil {
			return c.granted(port, netip.AddrPortFrom(outer, suggest), lease), nil
		}
		if code != 0 {
			c.outer = before // it is not ours
		}
		switch {
		case lease > 0 && (code == upnpOnlyPermanent || code == upnpInvalidArgs || code == upnpActionFailed):
			c.permanent = true // so some say it, too
		case code == upnpConflict || code == upnpOtherMechanism:
			// Some say so of what is this host's already.
			if lease, err := c.entry(ctx, port, suggest); err == nil {
				c.outer = suggest
				return c.granted(port, netip.AddrPortFrom(outer, suggest), lease), nil
			}
			conflict, suggest = true, uint16(1024+rand.IntN(1<<16-1024))
		case code == upnpSamePort && suggest != port && !conflict:
			suggest = port
		default:
			return grant{}, err
		}
	}
	return grant{}, err
}

func (c *igd) granted(port uint16, outer netip.AddrPort, lease time.Duration) grant {
	return grant{protocol: UPnP, internal: port, external: outer, lifetime: lease}
}

func (c *igd) addPort(ctx context.Context, port, outer uint16, lease time.Duration) (code int, err error) {
	where := outerPort(outer)
	// In the order of the service's description, which some routers insist on.
	return c.call(ctx, c.service, "AddPortMapping", &struct {
		NewRemoteHost             string
		NewExternalPort           string
		NewProtocol               string
		NewInternalPort           string
		NewInternalClient         string
		NewEnabled                string
		NewPortMappingDescription string
		NewLeaseDuration          string
	}{
		NewRemoteHost: where.NewRemoteHost, NewExternalPort: where.NewExternalPort, NewProtocol: where.NewProtocol,
		NewInternalPort: strconv.Itoa(int(port)), NewInternalClient: c.gateway.Local.String(), NewEnabled: "1",
		NewPortMappingDescription: description, NewLeaseDuration: strconv.Itoa(int(lease / time.Second)),
	}, nil)
}

// entry looks a mapping up and returns the rest of its lease, 0 for ever; the error is a refusal if it does not lead to our
// port.
func (c *igd) entry(ctx context.Context, port, outer uint16) (time.Duration, error) {
	in := outerPort(outer)
	var out struct {
		NewInternalPort   string
		NewInternalClient string
		NewLeaseDuration  string
	}
	if _, err := c.call(ctx, c.service, "GetSpecificPortMappingEntry", &in, &out); err != nil {
		return 0, err
	}
	client, _ := netip.ParseAddr(strings.TrimSpace(out.NewInternalClient))
	if client != c.gateway.Local || strings.TrimSpace(out.NewInternalPort) != strconv.Itoa(int(port)) {
		return 0, &refusal{upnpRefusals[upnpConflict]}
	}
	seconds, _ := strconv.ParseUint(strings.TrimSpace(out.NewLeaseDuration), 10, 32)
	return time.Duration(seconds) * time.Second, nil
}

// check looks whether the mapping and the outer address are as they were.
func (c *igd) check(ctx context.Context, held grant) error {
	outer, err := c.external(ctx, c.service)
	switch {
	case err != nil && !isRefusal(err):
		return &refusal{"the router does not answer as before"} // may have moved: renew finds out
	case err == nil && outer != held.external.Addr():
		return &refusal{"the outer address changed"}
	}
	_, err = c.entry(ctx, held.internal, held.external.Port())
	return err
}

func (c *igd) clear(ctx context.Context) {
	if c.outer == 0 {
		return
	}
	in := outerPort(c.outer)
	c.outer = 0
	_, _ = c.call(ctx, c.service, "DeletePortMapping", &in, nil)
}
