package profile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

// Names of the files that hnetd keeps in dds.dir.
const (
	CycloneFile      = "cyclonedds-0.10.xml"
	Cyclone11File    = "cyclonedds-11.xml"
	FastDDSFile      = "fastdds-2.xml"
	FastDDS3File     = "fastdds-3.xml"
	ZenohRouterFile  = "zenoh-router.json5"
	ZenohSessionFile = "zenoh-session.json5"
	// EnvironmentFile names the others in the way that systemd's EnvironmentFile= reads.
	EnvironmentFile = "environment"
)

// File is one file of a set.
type File struct {
	Name string
	Data []byte
}

// Set makes all files for dir, in which they will be; cyclone is the version of Cyclone DDS that EnvironmentFile is for.
// Profiles name the relay. What was written is read again: a file is whole and for this host, or there is an error and no
// file. A whitelist too long for zenoh leaves zenoh's router out, with an error beside the files.
func Set(p Params, dir string, cyclone CycloneVersion) ([]File, error) {
	p.Relay = true
	var files []File
	var left error
	for _, w := range []struct {
		name  string
		write func(Params) ([]byte, error)
		check func([]byte, Params) error
		may   bool // be missing
	}{
		{CycloneFile, Cyclone, checkOwn, false},
		{Cyclone11File, Cyclone11, checkOwn, false},
		{FastDDSFile, FastDDS, checkOwn, false},
		{FastDDS3File, FastDDS3, checkOwn, false},
		{ZenohRouterFile, ZenohRouter, checkRouter, true},
		{ZenohSessionFile, ZenohSession, checkJSON5, false},
	} {
		text, err := w.write(p)
		if err == nil {
			err = w.check(text, p)
		}
		if err != nil && w.may {
			left = fmt.Errorf("%s is not written: %w", w.name, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s is not written: %w", w.name, err)
		}
		files = append(files, File{w.name, text})
	}
	return append(files, File{EnvironmentFile, environmentText(dir, cyclone)}), left
}

func checkOwn(text []byte, p Params) error {
	if problem := Check(text, p); problem != nil {
		return errors.New(problem.Text)
	}
	return nil
}

func checkJSON5(text []byte, _ Params) error {
	_, err := parseJSON5(text)
	return err
}

func checkRouter(text []byte, p Params) error {
	if problem := CheckZenoh(text, p); problem != nil {
		return errors.New(problem.Text)
	}
	return nil
}

// CheckZenoh looks through a configuration of a zenoh router: whether it is JSON5, and whether it connects to all Peers.
func CheckZenoh(text []byte, p Params) *Problem {
	v, err := parseJSON5(text)
	if err != nil {
		return &Problem{Text: "it is no valid JSON5: " + err.Error()}
	}
	var named []string
	if o, ok := v.(map[string]any); ok {
		if c, ok := o["connect"].(map[string]any); ok {
			list, _ := c["endpoints"].([]any)
			for _, e := range list {
				if s, ok := e.(string); ok {
					named = append(named, s)
				}
			}
		}
	}
	for _, a := range p.Peers {
		if !slices.ContainsFunc(named, func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("tcp/[%s]:", a)) }) {
			return &Problem{Text: "it does not name the router of " + a.String(), Stale: true}
		}
	}
	return nil
}

func environmentText(dir string, cyclone CycloneVersion) []byte {
	var out strings.Builder
	out.WriteString("# Puts hnet's DDS profiles in force: EnvironmentFile= of a systemd unit. In a shell: eval \"$(hnet dds env)\"\n")
	for _, v := range Variables(dir, cyclone) {
		fmt.Fprintf(&out, "%s=%s\n", v.Name, systemdQuote(v.Value))
	}
	return []byte(out.String())
}

// systemdQuote writes a value as EnvironmentFile= takes it.
func systemdQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
}

// Store writes the files into dir that are not there already as they should be, each atomically and readable by everybody,
// and returns their names. The folder is made if it is missing.
func Store(dir string, files []File) (changed []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create the folder of the DDS profiles: %w; correct dds.dir or its permissions", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if same(path, f.Data) {
			continue
		}
		if err := statefile.Write(path, f.Data, 0o644); err != nil {
			return changed, err
		}
		changed = append(changed, f.Name)
	}
	return changed, nil
}

// same tells whether a file is there, readable by all and as given.
func same(path string, data []byte) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.FileMode(0o644) || info.Size() != int64(len(data)) {
		return false
	}
	have, err := os.ReadFile(path)
	return err == nil && bytes.Equal(have, data)
}
