// Command inet4 measures what an IPv4 address on hnet0 does to DDS programs, good and bad, with real Cyclone DDS and Fast DDS in a lab: two robots on one
// LAN, with a panel that has no hnetd, and a laptop behind another NAT. It prints the tables of docs/adr/0030-ipv4-on-hnet0.md.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// setting is the hosts' ipv4.
var setting = "auto"

func main() {
	lab.Enter()
	only := flag.String("run", "", "measure only cases that match this `regexp`")
	flag.StringVar(&setting, "ipv4", setting, "`setting` of hosts that have IPv4, in the cases with a profile")
	rounds := flag.Int("rounds", 3, "how often each case is measured, in turn")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "inet4: no network namespaces here:", why)
		os.Exit(1)
	}
	programs, err := dds.Build(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "inet4:", err)
		os.Exit(1)
	}
	if code := lab.Program("build", func(t lab.TB) { fleet.Binary(t, "hnetd") }); code != 0 {
		os.Exit(code)
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "inet4:", err)
		os.Exit(2)
	}
	var profiled []result
	var bare []result
	for range *rounds {
		for _, c := range profileCases {
			if match.MatchString(c.name) && lab.Program(c.name, func(t lab.TB) { profiled = append(profiled, withProfile(t, programs, c)) }) != 0 {
				profiled = append(profiled, result{name: c.name, failed: true})
			}
		}
		for _, c := range bareCases {
			if match.MatchString(c.name) && lab.Program(c.name, func(t lab.TB) { bare = append(bare, withoutProfile(t, programs, c)) }) != 0 {
				bare = append(bare, result{name: c.name, failed: true})
			}
		}
	}
	fmt.Println("With a profile, Cyclone DDS; robot1 publishes 500 samples of 1000 B at 100 Hz, robot2 and a panel without hnetd and profile are on its LAN, the laptop behind another NAT:")
	fmt.Println()
	report(profiled)
	fmt.Println()
	fmt.Println("Without any profile; robot1 publishes to robot2 on its LAN:")
	fmt.Println()
	report(bare)
}

// result is one round of one case.
type result struct {
	name       string
	failed     bool
	match      time.Duration // from the start of the last program
	received   [3]int        // at robot2, at the laptop, at the panel
	duplicates int
	lan, hnet  uint64 // bytes that robot1 sent by its LAN device (ciphertext of hnet0 included) and by hnet0
	latency    [2]time.Duration
	throughput float64 // MB/s to robot2
}

// report prints the medians of each case.
func report(all []result) {
	fmt.Println("| | matched after | received by robot2 | by the laptop | by the panel | duplicates | sent by the LAN device | by hnet0 | latency to robot2, median, 99 % | MB/s to robot2, samples of 100 kB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	var names []string
	for _, r := range all {
		if !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
	}
	for _, name := range names {
		var of []result
		failed := 0
		for _, r := range all {
			if r.name == name && r.failed {
				failed++
			} else if r.name == name && r.match == 0 {
				failed++
			} else if r.name == name {
				of = append(of, r)
			}
		}
		if len(of) == 0 {
			fmt.Printf("| %s | never, in %d rounds | | | | | | | | |\n", name, failed)
			continue
		}
		mid := func(f func(result) float64) float64 {
			v := make([]float64, 0, len(of))
			for _, r := range of {
				v = append(v, f(r))
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		note := ""
		if failed > 0 {
			note = fmt.Sprintf(" (%d of %d rounds failed)", failed, failed+len(of))
		}
		ms := func(i int) float64 { return mid(func(r result) float64 { return r.latency[i].Seconds() * 1000 }) }
		fmt.Printf("| %s%s | %.2f s | %.0f | %.0f | %.0f | %.0f | %.0f kB | %.0f kB | %.2f, %.2f ms | %s |\n", name, note,
			mid(func(r result) float64 { return r.match.Seconds() }), mid(func(r result) float64 { return float64(r.received[0]) }),
			mid(func(r result) float64 { return float64(r.received[1]) }), mid(func(r result) float64 { return float64(r.received[2]) }), mid(func(r result) float64 { return float64(r.duplicates) }),
			mid(func(r result) float64 { return float64(r.lan) / 1000 }), mid(func(r result) float64 { return float64(r.hnet) / 1000 }),
			ms(0), ms(1), rate(mid(func(r result) float64 { return r.throughput })))
	}
}

func rate(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", v)
}

// world is the lab: two robots on a LAN with a panel that has no hnetd, a laptop elsewhere.
type world struct {
	t      lab.TB
	lab    *lab.Lab
	robots [3]*fleet.Robot
	hosts  [4]*lab.Host
	device string // of the LAN
}

func newWorld(t lab.TB, overlay bool, configuration string) *world {
	l := lab.New(t)
	n := internet.New(t, l)
	base := fleet.StartBase(t, n.Base("base1").Host)
	home, office := n.Site("home", internet.PortRestricted), n.Site("office", internet.FullCone)
	w := &world{t: t, lab: l, device: "lan0"}
	for i, h := range []*internet.Host{home.Host("robot1"), home.Host("robot2"), office.Host("laptop")} {
		w.hosts[i] = h.Host
		if overlay {
			w.robots[i] = fleet.Start(t, h.Host, "bases:\n"+base.Entry("base1")+"dds: {enabled: false}\n"+configuration)
		}
	}
	w.hosts[3] = home.Host("panel").Host
	if !overlay {
		return w
	}
	fleet.Trust(w.robots[:]...)
	for i, r := range w.robots {
		for _, other := range w.robots[:i] {
			r.Hnet("wait", "peer", other.Name(), "--timeout", "20s")
		}
	}
	lab.Eventually(t, 20*time.Second, "direct paths and addresses", func() error {
		for i, r := range w.robots {
			var s api.Status
			r.JSON(&s, "status")
			for _, other := range w.robots[:i] {
				p, _ := r.Peer(other.Address)
				if p.Path != api.PathLAN && p.Path != api.PathDirect || s.IPv4.IsValid() && !p.IPv4.IsValid() {
					return fmt.Errorf("%s reaches %s by %s, IPv4 %v", r.Name(), other.Name(), p.Path, p.IPv4)
				}
			}
		}
		return nil
	})
	return w
}

// replug gives the two robots another LAN device in place of the first.
func (w *world) replug() {
	w.lab.LAN(lab.Link{}, lab.Prefixes{IPv4: netip.MustParsePrefix("192.168.77.0/24")}, w.hosts[0], w.hosts[1])
	for _, h := range w.hosts[:2] {
		h.LinkDown(w.device)
	}
	w.device = "lan1"
}

// sent is how many bytes robot1 sent by a device.
func (w *world) sent(device string) uint64 {
	link, err := w.hosts[0].Netlink().LinkByName(device)
	if err != nil {
		return 0
	}
	return link.Attrs().Statistics.TxBytes
}

func (w *world) run(i int, env []string, program string, args ...string) *lab.Process {
	cmd := w.hosts[i].Command(context.Background(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	return w.hosts[i].StartCmd(w.t, cmd)
}

const patience = 40 * time.Second

// measure has robot1 publish to robot2, and to the laptop if it takes part.
func (w *world) measure(program string, env [4][]string, who []int, name string) (r result) {
	r.name = name
	sub := []string{"sub", "--name", "s", "--count", "500", "--times", "--timeout", "40", "--best-effort"}
	var subs []*lab.Process
	for _, i := range who {
		subs = append(subs, w.run(i, env[i], program, sub...))
	}
	for _, s := range subs {
		s.WaitLine(`^ready`, patience)
	}
	var pub *lab.Process
	var lan, hnet uint64
	for _, match := range []int{len(who), 1} {
		lan, hnet = w.sent(w.device), w.sent("hnet0")
		began := time.Now()
		pub = w.run(0, env[0], program, "pub", "--name", "robot1", "--count", "500", "--rate", "100", "--size", "1000", "--times", "--timeout", "40", "--best-effort",
			"--match", strconv.Itoa(match))
		if r.match = w.matched(pub, match, began); r.match > 0 {
			break
		}
		pub.Stop() // somebody is not found: what do the others get
	}
	if r.match > 0 {
		pub.Wait(patience)
	}
	time.Sleep(300 * time.Millisecond)
	r.lan, r.hnet = w.sent(w.device)-lan, w.sent("hnet0")-hnet
	if r.match == 0 {
		return r
	}
	for i, s := range subs {
		s.Stop()
		r.received[who[i]-1] = strings.Count(s.Output(), "received robot1 ")
		if m := regexp.MustCompile(`duplicates=(\d+)`).FindStringSubmatch(s.Output()); m != nil {
			n, _ := strconv.Atoi(m[1])
			r.duplicates += n
		}
	}
	r.latency = latencies(pub.Output(), subs[0].Output())
	return r
}

// matched waits until a publisher has so many readers, and returns how long that took; 0 if it did not come to it.
func (w *world) matched(pub *lab.Process, n int, began time.Time) time.Duration {
	for time.Since(began) < 10*time.Second {
		if strings.Contains(pub.Output(), fmt.Sprintf("matched %d\n", n)) {
			return time.Since(began)
		}
		time.Sleep(time.Millisecond)
	}
	return 0
}

var (
	sentLine     = regexp.MustCompile(`(?m)^sent (\d+) ([0-9.]+)`)
	receivedLine = regexp.MustCompile(`(?m)^received robot1 (\d+) \d+ ([0-9.]+)`)
)

// latencies are the median and the 99th percentile: all hosts of a lab have one clock.
func latencies(pub, sub string) (l [2]time.Duration) {
	at := make(map[string]float64)
	for _, m := range sentLine.FindAllStringSubmatch(pub, -1) {
		at[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	var all []time.Duration
	for _, m := range receivedLine.FindAllStringSubmatch(sub, -1) {
		if sent, ok := at[m[1]]; ok {
			t, _ := strconv.ParseFloat(m[2], 64)
			all = append(all, time.Duration((t-sent)*1e9))
		}
	}
	slices.SortFunc(all, cmp.Compare[time.Duration])
	if len(all) > 0 {
		l = [2]time.Duration{all[len(all)/2], all[len(all)*99/100]}
	}
	return l
}

// bulk is how many megabytes a second reach robot2, reliably.
func (w *world) bulk(program string, env [4][]string) float64 {
	sub := w.run(1, env[1], program, "sub", "--name", "s", "--count", "300", "--times", "--timeout", "40")
	sub.WaitLine(`^ready`, patience)
	pub := w.run(0, env[0], program, "pub", "--name", "robot1", "--count", "300", "--rate", "0", "--size", "100000", "--timeout", "40")
	pub.Wait(patience)
	sub.Wait(patience)
	lines := receivedLine.FindAllStringSubmatch(sub.Output(), -1)
	if len(lines) < 300 {
		w.t.Logf("%d of 300 large samples arrived", len(lines))
		return 0
	}
	first, _ := strconv.ParseFloat(lines[0][2], 64)
	last, _ := strconv.ParseFloat(lines[len(lines)-1][2], 64)
	return 29.9 / (last - first)
}

// profileCase is a Cyclone profile.
type profileCase struct {
	name    string
	overlay bool
	who     []int  // of the hosts
	panel   string // its settings
	xml     func(w *world, i int) string
}

var profileCases = []profileCase{
	{"LAN alone, no hnetd", false, []int{1, 3}, "", func(w *world, i int) string {
		return cyclone("udp", []string{lanInterface}, "spdp", "", nil)
	}},
	{"overlay alone, IPv6", true, []int{1, 2}, "", func(w *world, i int) string {
		return cyclone("udp6", []string{overlayInterface}, "false", "", w.addresses(func(r *fleet.Robot) netip.Addr { return r.Address }))
	}},
	{"overlay alone, IPv4", true, []int{1, 2}, "", func(w *world, i int) string {
		return cyclone("udp", []string{overlayInterface}, "false", "", w.addresses(own4))
	}},
	{"LAN and overlay, hnet0 multicast=false", true, []int{1, 2, 3}, "", func(w *world, i int) string {
		return cyclone("udp", []string{overlayInterface, lanInterface}, "spdp", "", w.addresses(own4))
	}},
	{"LAN and overlay", true, []int{1, 2, 3}, "", func(w *world, i int) string {
		return cyclone("udp", []string{plainInterface, lanInterface}, "spdp", "", w.addresses(own4))
	}},
	{"LAN and overlay, DontRoute", true, []int{1, 2, 3}, "", func(w *world, i int) string {
		return cyclone("udp", []string{plainInterface, lanInterface}, "spdp", dontRoute, w.addresses(own4))
	}},
	{"LAN and overlay, DontRoute, on the panel too", true, []int{1, 2, 3}, dontRoute, func(w *world, i int) string {
		return cyclone("udp", []string{plainInterface, lanInterface}, "spdp", dontRoute, w.addresses(own4))
	}},
	{"LAN and overlay, DontRoute, hnet0 preferred", true, []int{1, 2, 3}, "", func(w *world, i int) string {
		return cyclone("udp", []string{preferredInterface, lanInterface}, "spdp", dontRoute, w.addresses(own4))
	}},
}

const (
	overlayInterface   = `<NetworkInterface name="hnet0" multicast="false"/>`
	plainInterface     = `<NetworkInterface name="hnet0"/>`
	preferredInterface = `<NetworkInterface name="hnet0" priority="10"/>`
	dontRoute          = `<DontRoute>true</DontRoute>`
	lanInterface       = `<NetworkInterface name="lan0"/>`
)

func own4(r *fleet.Robot) netip.Addr {
	var s api.Status
	r.JSON(&s, "status")
	return s.IPv4
}

func (w *world) addresses(of func(*fleet.Robot) netip.Addr) (list []string) {
	for _, r := range w.robots {
		list = append(list, of(r).String())
	}
	return list
}

func cyclone(transport string, interfaces []string, multicast, more string, peers []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<CycloneDDS><Domain Id="any"><General><Transport>%s</Transport><Interfaces>%s</Interfaces><AllowMulticast>%s</AllowMulticast>`,
		transport, strings.Join(interfaces, ""), multicast)
	b.WriteString(`<MaxMessageSize>1200B</MaxMessageSize><FragmentSize>1100B</FragmentSize>` + more + `</General>`)
	b.WriteString(`<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>9</MaxAutoParticipantIndex><Peers>`)
	for _, p := range peers {
		fmt.Fprintf(&b, `<Peer Address="%s"/>`, p)
	}
	b.WriteString(`</Peers></Discovery></Domain></CycloneDDS>`)
	return b.String()
}

func withProfile(t lab.TB, p dds.Programs, c profileCase) result {
	w := newWorld(t, c.overlay, "ipv4: "+setting+"\n")
	var env [4][]string
	for i := range 3 {
		env[i] = []string{"CYCLONEDDS_URI=" + c.xml(w, i)}
	}
	switch {
	case !c.overlay:
		env[3] = env[0]
	case c.panel != "":
		env[3] = []string{"CYCLONEDDS_URI=<General>" + c.panel + "</General>"}
	}
	r := w.measure(p.Cyclone, env, c.who, c.name)
	if r.match > 0 {
		r.throughput = w.bulk(p.Cyclone, env)
	}
	return r
}

// bareCase is a host without any profile.
type bareCase struct {
	name    string
	vendor  func(dds.Programs) string
	overlay bool
	config  string
	late    bool // the LAN device came after hnet0, as a USB adapter does
}

var bareCases = []bareCase{
	{"Cyclone, no hnetd", cycloneProgram, false, "", false},
	{"Cyclone, hnet0 without IPv4", cycloneProgram, true, "ipv4: off\n", false},
	{"Cyclone, hnet0 with IPv4", cycloneProgram, true, "ipv4: auto\n", false},
	{"Cyclone, hnet0 without IPv4, older than the LAN device", cycloneProgram, true, "ipv4: off\n", true},
	{"Cyclone, hnet0 with IPv4, older than the LAN device", cycloneProgram, true, "ipv4: auto\n", true},
	{"Fast DDS, no hnetd", fastProgram, false, "", false},
	{"Fast DDS, hnet0 without IPv4", fastProgram, true, "ipv4: off\n", false},
	{"Fast DDS, hnet0 with IPv4", fastProgram, true, "ipv4: auto\n", false},
}

func cycloneProgram(p dds.Programs) string { return p.Cyclone }
func fastProgram(p dds.Programs) string    { return p.FastDDS }

func withoutProfile(t lab.TB, p dds.Programs, c bareCase) result {
	w := newWorld(t, c.overlay, c.config)
	if c.late {
		w.replug()
	}
	var env [4][]string
	r := w.measure(c.vendor(p), env, []int{1}, c.name)
	if r.match > 0 {
		r.throughput = w.bulk(c.vendor(p), env)
	}
	return r
}
