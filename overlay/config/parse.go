package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/inet4"
)

// Parse reads a configuration from data; file is its name in errors. It does not read the files that data names.
func Parse(file string, data []byte) (Config, error) {
	d := decoder{file: file}
	c := Default()
	if len(data) > MaxFile {
		return Config{}, &Error{File: file, Text: fmt.Sprintf("longer than %d bytes, which no configuration is", MaxFile)}
	}
	stream := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := stream.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return c, nil
	case err != nil:
		return Config{}, d.syntax(err)
	}
	if err := d.top(doc.Content[0], &c); err != nil {
		return Config{}, err
	}
	var second yaml.Node
	switch err := stream.Decode(&second); {
	case err == nil:
		return Config{}, d.errorf(&second, "a second document: expected one only (remove the line ---)")
	case !errors.Is(err, io.EOF):
		return Config{}, d.syntax(err)
	}
	return c, nil
}

var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax turns the YAML library's error into one of ours.
func (d *decoder) syntax(err error) error {
	text, line := err.Error(), 0
	if m := syntaxLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	text = strings.Join(strings.Fields(strings.TrimPrefix(text, "yaml: ")), " ")
	return &Error{File: d.file, Line: line, Text: "not valid YAML: " + text}
}

func (d *decoder) top(n *yaml.Node, c *Config) error {
	return d.mapping(n, "the configuration", fields{
		"interface": d.text(&c.Interface, checkInterface),
		"mtu":       d.number(&c.MTU, checkMTU),
		"port": func(n *yaml.Node) error {
			c.PortSet = true
			return d.port(&c.Port)(n)
		},
		"bases":         d.list(MaxBases, func(n *yaml.Node) error { return d.base(n, c) }),
		"peers":         d.list(MaxPeers, func(n *yaml.Node) error { return d.peer(n, c) }),
		"lan_discovery": d.boolean(&c.LANDiscovery),
		"port_mapping":  d.boolean(&c.PortMapping),
		"whitelist_enabled": func(n *yaml.Node) error {
			c.WhitelistEnabledSet = true
			return d.boolean(&c.WhitelistEnabled)(n)
		},
		"relay":      d.boolean(&c.Relay),
		"proxy":      d.text(&c.Proxy, optional(checkProxy)),
		"low_data":   d.boolean(&c.LowData),
		"pace":       d.boolean(&c.Pace),
		"nice":       d.number(&c.Nice, checkNice),
		"cipher":     d.text((*string)(&c.Cipher), oneOf(string(CipherAuto), string(CipherChaCha20Poly1305), string(CipherAES256GCM))),
		"hosts_file": d.text(&c.HostsFile, optional(checkAbsolute)),
		"log_level":  d.logLevel(&c.LogLevel),
		"metrics":    d.text(&c.Metrics, optional(checkListen)),
		"dds":        func(n *yaml.Node) error { return d.dds(n, &c.DDS) },
		"multicast":  d.boolean(&c.Multicast),
		"ipv4":       d.ipv4(&c.IPv4),
	})
}

// ipv4 reads auto, off or a range.
func (d *decoder) ipv4(out *IPv4) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		var text string
		if err := d.text(&text, nil)(n); err != nil {
			return err
		}
		switch text {
		case "auto":
			*out = IPv4{}
			return nil
		case "off":
			*out = IPv4{Off: true}
			return nil
		}
		r, err := netip.ParsePrefix(text)
		if err != nil {
			return d.errorf(n, "ipv4: expected auto | off | a range such as 10.94.0.0/16, found %q", text)
		}
		if err := inet4.CheckRange(r); err != nil {
			return d.errorf(n, "ipv4: %v", err)
		}
		*out = IPv4{Range: r}
		return nil
	}
}

func (d *decoder) base(n *yaml.Node, c *Config) error {
	b := Base{UDP: DefaultPort, TCP: DefaultBaseTCP}
	err := d.mapping(n, "a Base", fields{
		"host": d.text(&b.Host, CheckHost),
		"address": func(n *yaml.Node) error {
			if err := d.address(&b.Address)(n); err != nil {
				return err
			}
			for _, other := range c.Bases {
				if other.Address == b.Address {
					return d.errorf(n, "address: %s is listed twice: remove one of the two Bases", b.Address)
				}
			}
			return nil
		},
		"udp": d.port(&b.UDP),
		"tcp": d.port(&b.TCP),
	})
	switch {
	case err != nil:
		return err
	case b.Host == "":
		return d.errorf(n, "this Base has no host: expected host: and address:")
	case !b.Address.IsValid():
		return d.errorf(n, "this Base has no address, which pins its identity: expected what 'hnet_base id' prints on it")
	case b.UDP == 0 && b.TCP == 0:
		return d.errorf(n, "this Base cannot be reached with udp: 0 and tcp: 0: expected a port for one of them")
	}
	c.Bases = append(c.Bases, b)
	return nil
}

func (d *decoder) peer(n *yaml.Node, c *Config) error {
	var p Peer
	err := d.mapping(n, "a peer", fields{
		"key": func(n *yaml.Node) (err error) {
			var text string
			if err := d.text(&text, nil)(n); err != nil {
				return err
			}
			if p.Key, err = identity.ParsePublicKey(text); err != nil {
				return d.errorf(n, "key: expected a WireGuard public key, as 'wg pubkey' prints it: %v", err)
			}
			if d.peers[p.Key] {
				return d.errorf(n, "key: %s is listed twice: remove one of the two peers", p.Key)
			}
			return nil
		},
		"endpoint": d.text(&p.Endpoint, optional(CheckEndpoint)),
		"psk_file": func(n *yaml.Node) error {
			p.pskLine = n.Line
			return d.text(&p.PSKFile, optional(checkAbsolute))(n)
		},
		"relay": d.boolean(&p.Relay),
	})
	switch {
	case err != nil:
		return err
	case p.Key.IsZero():
		return d.errorf(n, "this peer has no key: expected key: with its WireGuard public key")
	}
	if d.peers == nil {
		d.peers = make(map[identity.PublicKey]bool)
	}
	d.peers[p.Key] = true
	c.Peers = append(c.Peers, p)
	return nil
}

func (d *decoder) dds(n *yaml.Node, c *DDS) error {
	return d.mapping(n, "dds", fields{
		"enabled": d.boolean(&c.Enabled),
		"dir":     d.text(&c.Dir, checkAbsolute),
		"watch":   d.boolean(&c.Watch),
		"lanes": d.list(MaxLanes, func(n *yaml.Node) error {
			lane := Lane{Lane: "normal"}
			err := d.mapping(n, "a lane", fields{
				"match":     d.text(&lane.Match, checkTopic),
				"lane":      d.text(&lane.Lane, oneOf("urgent", "normal", "bulk")),
				"redundant": d.boolean(&lane.Redundant),
			})
			if err != nil {
				return err
			}
			if lane.Match == "" {
				return d.errorf(n, `this lane has no match: expected match: with a topic such as "/cmd_vel"`)
			}
			for _, other := range c.Lanes {
				if other.Match == lane.Match {
					return d.errorf(n, "match: %q is listed twice: remove one of the two lanes", lane.Match)
				}
			}
			c.Lanes = append(c.Lanes, lane)
			return nil
		}),
		"mode":    d.text(&c.Mode, oneOf(DDSBoth, DDSOverlay)),
		"release": d.text(&c.Release, oneOf(ReleaseAuto, ReleaseAny, "foxy", "galactic", "humble", "iron", "jazzy", "kilted", "lyrical", "rolling")),
		"mixed": func(n *yaml.Node) error {
			var word string
			err := d.text(&word, oneOf("separate", "allow"))(n)
			c.Mixed = word == "allow"
			return err
		},
	})
}

func (d *decoder) address(out *netip.Addr) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		var text string
		if err := d.text(&text, nil)(n); err != nil {
			return err
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			return d.errorf(n, "address: expected an address in %s, found %q", identity.Prefix, text)
		}
		if err := CheckAddress(a); err != nil {
			return d.errorf(n, "address: %v", err)
		}
		*out = a
		return nil
	}
}

func (d *decoder) logLevel(out *slog.Level) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		var text string
		if err := d.text(&text, oneOf("debug", "info", "warn", "error"))(n); err != nil {
			return err
		}
		return out.UnmarshalText([]byte(text))
	}
}

func checkInterface(s string) error {
	plain := len(s) >= 1 && len(s) <= 15 && s != "." && s != ".." && s != "all" && s != "default" && s != "lo"
	for _, c := range []byte(s) {
		plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-.", c) >= 0)
	}
	if !plain {
		return fmt.Errorf("expected the name of a network interface of our own: 1 to 15 letters, digits, - _ or . (found %q)", s)
	}
	return nil
}

func checkMTU(v int) error {
	if v != 0 && (v < MinMTU || v > MaxMTU) {
		return fmt.Errorf("expected 0 (found per path) or %d..%d, found %d", MinMTU, MaxMTU, v)
	}
	return nil
}

func checkNice(v int) error {
	if v < -20 || v > 19 {
		return fmt.Errorf("expected -20..19, found %d", v)
	}
	return nil
}

func checkAbsolute(s string) error {
	if !filepath.IsAbs(s) || strings.ContainsRune(s, 0) {
		return fmt.Errorf("expected a path that begins with /, found %q", s)
	}
	return nil
}

func checkListen(s string) error {
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
		return fmt.Errorf(`expected "" or an address to listen on such as 127.0.0.1:9586, found %q`, s)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return fmt.Errorf(`expected an IP address of this host before the port, found %q`, host)
	}
	return nil
}

func checkTopic(s string) error {
	if !strings.HasPrefix(s, "/") || len(s) > 255 || strings.ContainsAny(s, " \t\n\x00") {
		return fmt.Errorf(`expected a topic that begins with / such as "/cmd_vel" (* and ? stand for anything), found %q`, s)
	}
	return nil
}
