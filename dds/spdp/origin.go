package spdp

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a search for the program that has a socket.
const (
	maxProcesses   = 32768
	maxDescriptors = 65536
	maxEnvironment = 1 << 20
)

// originOf tells the release of the program that has one of some sockets, by its environment: ROS_DISTRO, or the
// distribution whose packages it is given. proc is the folder /proc. Unknown if that does not tell, or may not be read.
func originOf(proc fs.FS, inodes []uint64) Release {
	want := map[string]bool{}
	for _, i := range inodes {
		want["socket:["+strconv.FormatUint(i, 10)+"]"] = true
	}
	if len(want) == 0 {
		return Unknown
	}
	list, err := fs.ReadDir(proc, ".")
	if err != nil {
		return Unknown
	}
	var processes []int
	for _, e := range list {
		if n, err := strconv.Atoi(e.Name()); err == nil && len(processes) < maxProcesses {
			processes = append(processes, n)
		}
	}
	slices.Sort(processes)
	slices.Reverse(processes) // whoever is new has a high number, as a rule
	for _, p := range processes {
		folder := path.Join(strconv.Itoa(p), "fd")
		files, err := fs.ReadDir(proc, folder)
		if err != nil {
			continue
		}
		for _, f := range files[:min(len(files), maxDescriptors)] {
			if target, err := fs.ReadLink(proc, path.Join(folder, f.Name())); err != nil || !want[target] {
				continue
			}
			return environment(proc, p)
		}
	}
	return Unknown
}

// environment is the release that a process was started for.
func environment(proc fs.FS, process int) Release {
	f, err := proc.Open(path.Join(strconv.Itoa(process), "environ"))
	if err != nil {
		return Unknown
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEnvironment))
	if err != nil {
		return Unknown
	}
	found := Unknown
	for entry := range bytes.SplitSeq(b, []byte{0}) {
		name, value, _ := strings.Cut(string(entry), "=")
		switch name {
		case "ROS_DISTRO":
			if r, err := ParseRelease(value); err == nil && r != Unknown {
				return r
			}
		case "AMENT_PREFIX_PATH":
			for folder := range strings.SplitSeq(value, ":") {
				if r, err := ParseRelease(path.Base(folder)); err == nil && r != Unknown && path.Dir(folder) == "/opt/ros" {
					found = r
				}
			}
		}
	}
	return found
}
