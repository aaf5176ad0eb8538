// Package config reads the daemon's configuration: one YAML file in which everything is optional.
// Every mistake in it is an [*Error] that names the file, the line and what was expected there.
package config

import (
	"log/slog"
	"net/netip"
	"path/filepath"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Limits of the configuration.
const (
	MaxFile  = 1 << 20 // bytes of the file
	MaxBases = 16
	MaxPeers = 10000
	MaxLanes = 256

	MinMTU = 1280
	MaxMTU = 65535

	// DefaultPort is this node's UDP port if none is set: the first of ten that are tried.
	DefaultPort = 5582
	// DefaultNice lets packets go before programs, but not so far before that a stream keeps the programs at its ends from the processor: see host.SetNice.
	DefaultNice = -4
	// DefaultBaseTCP is a Base's TCP port if none is set.
	DefaultBaseTCP = 443
)

// Cipher says how the tunnel's cipher is chosen.
type Cipher string

// The choices of cipher.
const (
	CipherAuto             Cipher = "auto" // AES-256-GCM where both sides have AES instructions
	CipherChaCha20Poly1305 Cipher = "chacha20poly1305"
	CipherAES256GCM        Cipher = "aes256gcm"
)

// Config is a checked configuration.
type Config struct {
	Interface string
	MTU       int    // 0 = found per path, else MinMTU..MaxMTU
	Port      uint16 // 0 = any
	// PortSet tells a port that the file names, which must be free, from the default, which may give way to the next.
	PortSet      bool
	Bases        []Base
	Peers        []Peer
	LANDiscovery bool
	PortMapping  bool
	// WhitelistEnabled is what the file says, or true. WhitelistEnabledSet tells whether it says anything.
	WhitelistEnabled    bool
	WhitelistEnabledSet bool
	Relay               bool
	LowData             bool
	// Pace has each path to a peer held to what it carries without a queue.
	Pace bool
	// Nice is the daemon's nice value, -20 to 19; 0 = as it was started.
	Nice int
	// Proxy is the HTTP proxy for connections to Bases by TCP: http://[user:password@]host:port, "" = the environment's, or
	// NoProxy. It may hold a password: never print it. See ProxyFor.
	Proxy     string
	Cipher    Cipher
	HostsFile string // absolute; "" = leave names alone
	LogLevel  slog.Level
	Metrics   string // host:port of the Prometheus endpoint; "" = none
	DDS       DDS
	// Multicast has multicast packets on hnet0 carried to the peers that listen to their group.
	Multicast bool
	// IPv4 says where this node's IPv4 address inside the overlay is taken from. Off by default, see docs/adr/0030-ipv4-on-hnet0.md.
	IPv4 IPv4
}

// IPv4 says where addresses inside the overlay are taken from.
type IPv4 struct {
	Off   bool
	Range netip.Prefix // invalid = inet4.DefaultRanges
}

// Base is one Base server. Its address pins its identity.
type Base struct {
	Host    string // IP address or DNS name, never inside fc94::/16
	Address netip.Addr
	UDP     uint16 // 0 = not by UDP
	TCP     uint16 // 0 = not by TCP
}

// Peer is static knowledge of one peer.
type Peer struct {
	Key      identity.PublicKey
	Endpoint string    // host:port, or ""
	PSKFile  string    // absolute, or ""
	PSK      *[32]byte // what [Load] read from PSKFile; never print it
	Relay    bool

	pskLine int // line of psk_file, for the error if it cannot be read
}

// DDS configures what the daemon does for DDS.
type DDS struct {
	Enabled bool
	Dir     string // absolute; see Folder
	Mode    string // DDSBoth or DDSOverlay
	Lanes   []Lane
	// Watch has the daemon look at which topic takes how much, and treat topics as Lanes say.
	Watch bool
	// Release is that of the ROS 2 programs of this host: ReleaseAuto, ReleaseAny or the name of a distribution.
	Release string
	// Mixed lets programs of ROS 2 Humble and of Iron and later find each other.
	Mixed bool
}

// What dds.mode may say: which networks the profiles have DDS programs use.
const (
	DDSBoth    = "both"    // the overlay beside the LAN, where the library can
	DDSOverlay = "overlay" // the overlay alone
)

// DefaultDDSDir is where the profiles are written if nothing else is set.
const DefaultDDSDir = DefaultState + "/dds"

// Folder is where the profiles are: Dir or, where that is not set, in the state folder.
func (c DDS) Folder(p Paths) string {
	if c.Dir == DefaultDDSDir {
		return filepath.Join(p.State, "dds")
	}
	return c.Dir
}

// What dds.release may say in place of a distribution.
const (
	ReleaseAuto = "auto" // found out for each program
	ReleaseAny  = "any"  // programs without ROS, which may meet everybody
)

// Lane puts the topics that match a pattern into a lane of the tunnel.
type Lane struct {
	Match     string // ROS topic name, may contain * and ?
	Lane      string // urgent, normal or bulk
	Redundant bool   // send on two paths
}

// Default is the configuration of an empty file.
func Default() Config {
	return Config{
		Interface:        "hnet0",
		Port:             DefaultPort,
		LANDiscovery:     true,
		PortMapping:      true,
		WhitelistEnabled: true,
		Cipher:           CipherAuto,
		HostsFile:        "/etc/hosts",
		LogLevel:         slog.LevelInfo,
		Pace:             true,
		Nice:             DefaultNice,
		IPv4:             IPv4{Off: true},
		DDS:              DDS{Enabled: true, Watch: true, Dir: DefaultDDSDir, Mode: DDSBoth, Release: ReleaseAuto},
	}
}
