package config

import "path/filepath"

// Where things are unless told otherwise.
const (
	DefaultFile  = "/etc/hnet/hnet.yaml"
	DefaultState = "/var/lib/hnet"
	DefaultRun   = "/run/hnet"
)

// Paths says where the daemon keeps its things; hnet finds the daemon by them.
type Paths struct {
	Config string // the configuration file
	State  string // folder of what must survive a restart
	Run    string // folder of the API's socket
}

// FindPaths returns the paths that the environment names in HNET_CONFIG, HNET_STATE and HNET_RUN, with the
// defaults for those unset or empty. Pass os.Getenv.
func FindPaths(getenv func(string) string) Paths {
	or := func(name, fallback string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return fallback
	}
	return Paths{
		Config: or("HNET_CONFIG", DefaultFile),
		State:  or("HNET_STATE", DefaultState),
		Run:    or("HNET_RUN", DefaultRun),
	}
}

// Socket is the path of the API's socket.
func (p Paths) Socket() string { return filepath.Join(p.Run, "hnetd.sock") }
