package api

import "runtime/debug"

// version is set when a release is linked: -ldflags "-X github.com/hnet-robotics/hnet_bridge/overlay/api.version=1.2.3".
var version string

// Version names this build: the release, or "dev" and the commit it was built from.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = "-" + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	return "dev" + revision + modified
}
