package profile

import (
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// CycloneVersion says which of the two profiles of Cyclone DDS a program can read.
type CycloneVersion string

// The versions of Cyclone DDS that differ in what they read.
const (
	Cyclone010 CycloneVersion = "0.10"
	CycloneV11 CycloneVersion = "11"
)

// File is the name of the profile for this version.
func (v CycloneVersion) File() string {
	if v == CycloneV11 {
		return Cyclone11File
	}
	return CycloneFile
}

// Variable is one of the environment.
type Variable struct{ Name, Value string }

// Names of the variables by which the libraries find their profiles.
const (
	CycloneVariable      = "CYCLONEDDS_URI"
	FastDDSVariable      = "FASTRTPS_DEFAULT_PROFILES_FILE" // Fast DDS 2
	FastDDS3Variable     = "FASTDDS_DEFAULT_PROFILES_FILE"  // Fast DDS 3
	ZenohRouterVariable  = "ZENOH_ROUTER_CONFIG_URI"
	ZenohSessionVariable = "ZENOH_SESSION_CONFIG_URI"
)

// Variables puts the files in dir in force, for every RMW at once.
func Variables(dir string, cyclone CycloneVersion) []Variable {
	in := func(name string) string { return filepath.Join(dir, name) }
	return []Variable{
		{CycloneVariable, "file://" + in(cyclone.File())},
		{FastDDSVariable, in(FastDDSFile)},
		{FastDDS3Variable, in(FastDDS3File)},
		{ZenohRouterVariable, in(ZenohRouterFile)},
		{ZenohSessionVariable, in(ZenohSessionFile)},
	}
}

// DetectCyclone finds the version of Cyclone DDS that ROS programs load, from the library's file name. prefixes are the
// folders that an environment in which ROS was sourced names (AMENT_PREFIX_PATH), distribution is ROS_DISTRO; both may be
// empty. Without them all distributions below /opt/ros count, then the system's own library; if those are of both
// versions it is 0.10, whose profile both can read. root is the file system's. found is what the answer was taken from, "" if
// nothing was found: then it is 0.10.
func DetectCyclone(root fs.FS, prefixes []string, distribution string) (v CycloneVersion, found string) {
	folders := slices.Clone(prefixes)
	if distribution != "" && !strings.ContainsAny(distribution, "/*?[\\") {
		folders = append(folders, path.Join("/opt/ros", distribution))
	}
	for _, folder := range folders {
		if v, found := cycloneIn(root, folder); found != "" {
			return v, found
		}
	}
	all, _ := fs.Glob(root, "opt/ros/*")
	for _, folder := range append(all, "usr/local", "usr") {
		w, at := cycloneIn(root, folder)
		if at == "" {
			continue
		}
		if found == "" || w == Cyclone010 {
			v, found = w, at
		}
		if v == Cyclone010 {
			return v, found
		}
	}
	if found == "" {
		return Cyclone010, ""
	}
	return v, found
}

// cycloneIn looks for the library below one folder.
func cycloneIn(root fs.FS, folder string) (v CycloneVersion, found string) {
	folder = strings.TrimPrefix(path.Clean("/"+folder), "/")
	if strings.ContainsAny(folder, "*?[\\") || !fs.ValidPath(folder) {
		return "", ""
	}
	for _, pattern := range []string{"lib/libddsc.so.*", "lib/*/libddsc.so.*", "lib64/libddsc.so.*"} {
		files, _ := fs.Glob(root, path.Join(folder, pattern))
		for _, f := range files {
			// libddsc.so.0.10.5, libddsc.so.11.0.1, and Debian's libddsc.so.0debian
			version := strings.TrimPrefix(path.Base(f), "libddsc.so.")
			major, _, _ := strings.Cut(version, ".")
			if n, err := strconv.Atoi(strings.TrimSuffix(major, "debian")); err == nil {
				if n >= 11 {
					return CycloneV11, "/" + f
				}
				return Cyclone010, "/" + f
			}
		}
	}
	return "", ""
}
