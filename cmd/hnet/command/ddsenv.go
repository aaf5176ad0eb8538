package command

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

// ownPrefix is that of variables which keep what a profile variable said before.
const ownPrefix = "HNET_OWN_"

func (a *app) ddsEnv() *cobra.Command {
	var cyclone, dir string
	var fish bool
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print shell commands that put the profiles in force",
		Long: "Print shell commands that put hnetd's profiles in force, for all of Cyclone DDS, Fast DDS and rmw_zenoh at once:\n" +
			"  eval \"$(hnet dds env)\"          bash, zsh, sh\n" +
			"  hnet dds env --fish | source    fish\n" +
			"It works while hnetd is down, once hnetd has written them. Do it after ROS was sourced: which version of Cyclone DDS is\n" +
			"installed is found by that.\n\n" +
			"A profile of your own in the environment stays in force, with ours added: CYCLONEDDS_URI names both, and where both say\n" +
			"something yours wins; for Fast DDS a file with both is written to your cache folder. Yours is never written to.",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				dir, _ = a.ddsFolder()
			}
			e := environment{getenv: a.Getenv, dir: dir, cache: cacheFolder(a.Getenv)}
			switch profile.CycloneVersion(cyclone) {
			case "":
				e.cyclone, _ = a.detectCyclone()
			case profile.Cyclone010, profile.CycloneV11:
				e.cyclone = profile.CycloneVersion(cyclone)
			default:
				return usagef(cmd, "--cyclone: expected 0.10 or 11, found %q", cyclone)
			}
			variables, remarks, err := e.make()
			if err != nil {
				return err
			}
			for _, r := range remarks {
				fmt.Fprintln(a.Stderr, "hnet:", r)
			}
			all := make(map[string]string)
			for _, v := range variables {
				all[v.Name] = v.Value
			}
			return a.show(all, func() string { return shell(variables, fish) })
		},
	}
	cmd.Flags().StringVar(&cyclone, "cyclone", "", "`version` of Cyclone DDS: 0.10 or 11 (default: what is found on this host)")
	cmd.Flags().StringVar(&dir, "dir", "", "`folder` of the profiles (default: dds.dir of hnetd's configuration)")
	cmd.Flags().BoolVar(&fish, "fish", false, "for the shell fish")
	return cmd
}

// detectCyclone finds out which Cyclone DDS programs of this shell load.
func (a *app) detectCyclone() (v profile.CycloneVersion, found string) {
	return profile.DetectCyclone(os.DirFS("/"), filepath.SplitList(a.Getenv("AMENT_PREFIX_PATH")), a.Getenv("ROS_DISTRO"))
}

func cacheFolder(getenv func(string) string) string {
	if dir := getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "hnet")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache", "hnet")
	}
	return ""
}

// environment is what variables are made from.
type environment struct {
	getenv  func(string) string
	dir     string // of hnetd's profiles
	cache   string // where merged profiles go; "" = nowhere
	cyclone profile.CycloneVersion
}

// make returns the variables that put the profiles in force beside the user's own, and remarks on what could not be done.
func (e *environment) make() (variables []profile.Variable, remarks []string, err error) {
	if _, err := os.Stat(filepath.Join(e.dir, profile.CycloneFile)); err != nil {
		return nil, nil, fmt.Errorf("there are no DDS profiles in %s yet (%w): start hnetd with 'systemctl start hnetd', which writes them; "+
			"if its folder is another one, name that with --dir", e.dir, cause(err))
	}
	for _, v := range profile.Variables(e.dir, e.cyclone) {
		own := e.own(v.Name)
		if own == "" {
			variables = append(variables, v)
			continue
		}
		switch v.Name {
		case profile.CycloneVariable:
			v.Value += "," + own
		case profile.FastDDSVariable, profile.FastDDS3Variable:
			merged, err := e.merge(own, v.Value)
			if err != nil {
				remarks = append(remarks, fmt.Sprintf("%s stays %s, without the overlay: %v; what to add to it is in %s", v.Name, own, err, v.Value))
				v.Value = own
				break
			}
			variables = append(variables, profile.Variable{Name: ownPrefix + v.Name, Value: own})
			v.Value = merged
		default:
			remarks = append(remarks, fmt.Sprintf("%s stays %s; what to add to it is in %s", v.Name, own, v.Value))
			v.Value = own
		}
		variables = append(variables, v)
	}
	return variables, remarks, nil
}

// own is what a variable says that is not from us, "" if nothing is.
func (e *environment) own(name string) string {
	now := e.getenv(name)
	if name == profile.CycloneVariable {
		return e.withoutOurs(now)
	}
	path, _ := strings.CutPrefix(now, "file://")
	if e.ours(path) {
		now = ""
		if before := e.getenv(ownPrefix + name); before != "" && !e.ours(before) {
			now = before
		}
	}
	return now
}

// ours tells whether a path is one of our files.
func (e *environment) ours(path string) bool {
	dir := filepath.Dir(path)
	return path != "" && (dir == filepath.Clean(e.dir) || e.cache != "" && dir == e.cache)
}

// withoutOurs takes our profiles out of a list as Cyclone reads it.
func (e *environment) withoutOurs(list string) string {
	var left []string
	for _, item := range cycloneList(list) {
		path, _ := strings.CutPrefix(strings.TrimSpace(item), "file://")
		if !e.ours(path) && strings.TrimSpace(item) != "" {
			left = append(left, item)
		}
	}
	return strings.Join(left, ",")
}

// cycloneList divides what CYCLONEDDS_URI may say: files and pieces of XML. A comma within one of those is no end.
func cycloneList(list string) (items []string) {
	begin := 0
	for i := 0; i < len(list); i++ {
		if list[i] != ',' {
			continue
		}
		next := strings.TrimLeft(list[i+1:], " ")
		inXML := strings.HasPrefix(strings.TrimSpace(list[begin:i]), "<")
		begins := strings.HasPrefix(next, "<") || strings.HasPrefix(next, "file:") || strings.HasPrefix(next, "/")
		if inXML && (!begins || !strings.HasSuffix(strings.TrimSpace(list[begin:i]), ">")) {
			continue
		}
		items = append(items, list[begin:i])
		begin = i + 1
	}
	return append(items, list[begin:])
}

// merge writes a file with the user's profile and ours, and returns its path.
func (e *environment) merge(own, ours string) (path string, err error) {
	if e.cache == "" {
		return "", fmt.Errorf("there is no folder for a file with both (HOME is not set)")
	}
	theirs, err := readProfile(own)
	if err != nil {
		return "", err
	}
	add, err := readProfile(ours)
	if err != nil {
		return "", err
	}
	text, err := profile.MergeFastDDS(theirs, add)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(e.cache, 0o755); err != nil {
		return "", cause(err)
	}
	sum := sha256.Sum256([]byte(own))
	name := strings.TrimSuffix(filepath.Base(ours), ".xml")
	path = filepath.Join(e.cache, fmt.Sprintf("%s-%x.xml", name, sum[:4]))
	if have, err := os.ReadFile(path); err == nil && string(have) == string(text) {
		return path, nil
	}
	return path, statefile.Write(path, text, 0o644)
}

func readProfile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() || info.Size() > profile.MaxProfile {
		return nil, fmt.Errorf("it is no file of at most %d bytes", profile.MaxProfile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, cause(err)
	}
	return text, nil
}

// cause is an error of the file system without the path.
func cause(err error) error {
	if p, ok := err.(*fs.PathError); ok {
		return p.Err
	}
	return err
}

// shell writes commands that set variables.
func shell(variables []profile.Variable, fish bool) string {
	var out strings.Builder
	for _, v := range variables {
		if fish {
			fmt.Fprintf(&out, "set -gx %s '%s'\n", v.Name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v.Value))
		} else {
			fmt.Fprintf(&out, "export %s='%s'\n", v.Name, strings.ReplaceAll(v.Value, "'", `'\''`))
		}
	}
	return out.String()
}
