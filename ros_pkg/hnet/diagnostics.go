package hnet

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/diagnostic_msgs"
)

const (
	levelOK    = diagnostic_msgs.DiagnosticStatusOK
	levelWarn  = diagnostic_msgs.DiagnosticStatusWarn
	levelError = diagnostic_msgs.DiagnosticStatusError
	levelStale = diagnostic_msgs.DiagnosticStatusStale
)

const (
	// maxPeerStatuses bounds the statuses of peers: with the whitelist off there can be any number of peers.
	maxPeerStatuses = 256
	// startTime is how long the daemon may take to answer for the first time.
	startTime = 3 * time.Second
)

// grave are the codes of warnings that are errors for a robot.
var grave = map[string]bool{"identity_cloned": true, "bases_unreachable": true}

// Diagnostics tells how the daemon, the node, its Bases and its peers do. prefix is the node's name, with which the statuses' names begin.
//
// Levels: OK, also for what is idle; WARN, something should be mended, or a peer is not reached; ERROR, no traffic flows that has to; STALE, the daemon
// does not answer, and this is what it said last.
func Diagnostics(now time.Time, prefix string, v *View, s *Settings) []diagnostic_msgs.DiagnosticStatus {
	d := &diagnosis{now: now, prefix: prefix, view: v, settings: s, names: map[string]bool{}}
	d.stale = !v.Up || now.Sub(v.Answered) > s.StaleAfter
	d.daemon()
	if v.Answered.IsZero() {
		return d.list
	}
	d.node()
	for i := range v.Status.Bases {
		d.base(&v.Status.Bases[i])
	}
	for _, p := range d.chosen() {
		d.peer(p)
	}
	d.missing()
	return d.list
}

type diagnosis struct {
	now      time.Time
	prefix   string
	view     *View
	settings *Settings
	stale    bool
	names    map[string]bool // in use
	list     []diagnostic_msgs.DiagnosticStatus
}

// finding is one status being made.
type finding struct {
	diagnostic_msgs.DiagnosticStatus
	cause, fix string
}

func (f *finding) value(key, value string) {
	f.Values = append(f.Values, diagnostic_msgs.KeyValue{Key: key, Value: value})
}

func (f *finding) number(key string, v *float64) {
	if v != nil {
		f.value(key, strconv.FormatFloat(*v, 'g', 6, 64))
	}
}

func (f *finding) age(key string, d time.Duration) {
	f.value(key, strconv.FormatFloat(max(d, 0).Seconds(), 'f', 1, 64))
}

// raise makes the level at least this.
func (f *finding) raise(level uint8, cause, fix string) {
	if level > f.Level || f.cause == "" {
		f.cause, f.fix = cause, fix
	}
	f.Level = max(f.Level, level)
}

// add appends a finding. All but the daemon's are stale with the daemon. other tells findings of the same name apart.
func (d *diagnosis) add(f *finding, name, other string, always bool) {
	f.Name = d.prefix + ": " + name
	if d.names[f.Name] && other != "" {
		f.Name += " (" + other + ")"
	}
	d.names[f.Name] = true
	if f.HardwareID == "" {
		f.HardwareID = text(d.view.Status.Address)
	}
	if f.cause != "" {
		f.value("cause", f.cause)
		if f.fix != "" {
			f.value("fix", f.fix)
		}
	}
	if d.stale && !always {
		f.Level = levelStale
		f.Message = fmt.Sprintf("hnetd does not answer; %.0f s ago: %s", d.now.Sub(d.view.Answered).Seconds(), f.Message)
	}
	d.list = append(d.list, f.DiagnosticStatus)
}

func (d *diagnosis) daemon() {
	v := d.view
	f := &finding{}
	f.value("run_folder", v.RunFolder)
	f.value("embedded", strconv.FormatBool(v.Embedded))
	f.value("version", v.Status.Version)
	f.value("restarts", strconv.Itoa(v.Restarts))
	f.value("requests_refused", strconv.FormatUint(v.Refused, 10))
	switch {
	case !v.Up && v.Answered.IsZero() && d.now.Sub(v.Since) < startTime:
		f.Message = "waiting for hnetd to answer"
		f.raise(levelWarn, "", "")
	case !v.Up:
		f.Message = "hnetd does not answer"
		cause, fix := words(v.Err)
		if cause != "" {
			f.Message = cause
		}
		f.raise(levelError, f.Message, fix)
		f.age("down_s", d.now.Sub(v.Since))
	case d.stale:
		f.Message = fmt.Sprintf("hnetd has not answered for %.0f s", d.now.Sub(v.Answered).Seconds())
		cause, fix := words(v.Err)
		if cause == "" {
			cause, fix = f.Message, "look at its log: journalctl -u hnetd"
		}
		f.raise(levelError, cause, fix)
	default:
		f.Message = "hnetd answers"
		f.age("up_s", d.now.Sub(v.Since))
	}
	if v.EmbedErr != nil {
		cause, fix := words(v.EmbedErr)
		f.Message = "the embedded overlay does not run: " + cause
		f.raise(levelError, cause, fix)
	}
	d.add(f, "daemon", "", true)
}

func (d *diagnosis) node() {
	st := &d.view.Status
	f := &finding{}
	up := 0
	for i := range d.view.Peers {
		if d.view.Peers[i].State == api.Connected {
			up++
		}
	}
	registered := 0
	for i := range st.Bases {
		if st.Bases[i].State == api.BaseRegistered {
			registered++
		}
	}
	f.Message = fmt.Sprintf("%d of %d peers connected", up, len(d.view.Peers))
	f.value("address", text(st.Address))
	f.value("hostname", st.Hostname)
	f.value("interface", st.Interface)
	f.value("nat", st.NAT)
	f.value("whitelist_enabled", strconv.FormatBool(st.WhitelistEnabled))
	f.value("peers", strconv.Itoa(len(d.view.Peers)))
	f.value("peers_connected", strconv.Itoa(up))
	f.value("bases", strconv.Itoa(len(st.Bases)))
	f.value("bases_registered", strconv.Itoa(registered))
	f.value("warnings", strconv.Itoa(len(st.Warnings)))
	seen := map[string]int{}
	for _, w := range st.Warnings {
		level := uint8(levelWarn)
		if grave[w.Code] {
			level = levelError
		}
		f.raise(level, w.Text, w.Fix)
		key := "warning " + w.Code
		if seen[w.Code]++; seen[w.Code] > 1 {
			key += " " + strconv.Itoa(seen[w.Code])
		}
		f.value(key, both(w.Text, w.Fix))
	}
	if f.cause != "" {
		f.Message = f.cause
		if n := len(st.Warnings) - 1; n > 0 {
			f.Message += fmt.Sprintf(" (and %d more)", n)
		}
	}
	d.add(f, "node", "", false)
}

func (d *diagnosis) base(b *api.Base) {
	f := &finding{}
	f.HardwareID = text(b.Address)
	since := d.now.Sub(d.view.baseSince(b.Address))
	switch b.State {
	case api.BaseRegistered:
		f.Message = "registered by " + b.Transport
		if b.RTT != nil {
			f.Message += ", " + milliseconds(seconds(b.RTT))
		}
	case api.BaseStandby:
		f.Message = "on standby: others are nearer"
	case api.BaseConnecting:
		f.Message = "connecting"
		if since > d.settings.ConnectingWarn {
			f.raise(levelWarn, fmt.Sprintf("it has not answered for %.0f s", since.Seconds()), "see what 'hnet doctor' says")
			f.Message = f.cause
		}
	case api.BaseUnreachable:
		f.raise(levelWarn, "it does not answer", "see that it runs, and that this network lets packets to it out: 'hnet doctor' tells more")
		f.Message = f.cause
	default:
		f.Message = string(b.State)
	}
	d.blame(f, text(b.Address))
	f.value("address", text(b.Address))
	f.value("host", b.Host)
	f.value("state", string(b.State))
	f.value("transport", b.Transport)
	f.numberSeconds("rtt", b.RTT)
	f.age("since_s", since)
	d.add(f, "base "+cmp.Or(b.Host, text(b.Address)), text(b.Address), false)
}

func (f *finding) numberSeconds(key string, ms *float64) {
	if ms != nil {
		s := *ms / 1000
		f.number(key+"_s", &s)
	}
}

// chosen returns the peers that get a status, in the order of the daemon's list: all, or as many as there may be with those that matter first.
func (d *diagnosis) chosen() (list []*api.Peer) {
	for i := range d.view.Peers {
		list = append(list, &d.view.Peers[i])
	}
	if len(list) <= maxPeerStatuses {
		return list
	}
	rank := func(p *api.Peer) int {
		switch {
		case d.settings.required(p):
			return 0
		case p.Whitelisted:
			return 1
		case p.State == api.Connected:
			return 2
		}
		return 3
	}
	slices.SortStableFunc(list, func(a, b *api.Peer) int { return rank(a) - rank(b) })
	return list[:maxPeerStatuses]
}

func (d *diagnosis) peer(p *api.Peer) {
	f := &finding{}
	f.HardwareID = text(p.Address)
	since := d.now.Sub(d.view.peerSince(p.Address))
	q, words := d.settings.judge(p, since)
	f.Message = words
	required := d.settings.required(p)
	switch q {
	case QualityFair:
		f.raise(levelWarn, words, "'hnet doctor "+name(p)+"' tells why")
	case QualityPoor:
		f.raise(levelError, words, "'hnet doctor "+name(p)+"' tells why")
	case QualityLost:
		level := uint8(levelWarn)
		if required {
			level = levelError
		}
		f.raise(level, words, "see that it runs and that this node is in its whitelist: 'hnet doctor "+name(p)+"' tells more")
	}
	if required && !p.Whitelisted && d.view.Status.WhitelistEnabled {
		f.raise(levelError, "it is required and not in the whitelist", "hnet whitelist add "+text(p.Address))
		f.Message = f.cause
	}
	d.blame(f, text(p.Address))
	f.value("address", text(p.Address))
	f.value("hostname", p.Hostname)
	f.value("state", string(p.State))
	f.value("path", string(p.Path))
	if p.Endpoint.IsValid() {
		f.value("endpoint", p.Endpoint.String())
	}
	f.numberSeconds("rtt", p.RTT)
	f.numberSeconds("jitter", p.Jitter)
	f.number("loss", p.Loss)
	f.value("tx_bytes", strconv.FormatUint(p.TxBytes, 10))
	f.value("rx_bytes", strconv.FormatUint(p.RxBytes, 10))
	if p.LastHandshake != nil {
		f.age("last_handshake_age_s", d.now.Sub(*p.LastHandshake))
	}
	f.value("whitelisted", strconv.FormatBool(p.Whitelisted))
	f.value("required", strconv.FormatBool(required))
	f.age("since_s", since)
	d.add(f, "peer "+name(p), text(p.Address), false)
}

// blame gives a finding the daemon's warnings that name its address.
func (d *diagnosis) blame(f *finding, address string) {
	for _, w := range d.view.Status.Warnings {
		if address != "" && (mentions(w.Text, address) || mentions(w.Fix, address)) {
			was := f.Level
			f.raise(levelWarn, w.Text, w.Fix)
			if f.Level > was {
				f.Message = w.Text
			}
			f.value("warning "+w.Code, both(w.Text, w.Fix))
		}
	}
}

// mentions finds an address in a text, and not as a part of a longer one.
func mentions(text, address string) bool {
	for i := strings.Index(text, address); i >= 0; {
		before, after := text[:i], text[i+len(address):]
		// A colon behind it may be the text's own.
		if !endsInAddress(before) && (!startsInAddress(after) || after == ":" || strings.HasPrefix(after, ": ")) {
			return true
		}
		next := strings.Index(after, address)
		if next < 0 {
			break
		}
		i += len(address) + next
	}
	return false
}

const ofAddress = ":0123456789abcdefABCDEF"

func endsInAddress(s string) bool {
	return s != "" && strings.ContainsRune(ofAddress, rune(s[len(s)-1]))
}

func startsInAddress(s string) bool { return s != "" && strings.ContainsRune(ofAddress, rune(s[0])) }

// missing tells of required peers that the daemon does not know.
func (d *diagnosis) missing() {
	for _, want := range d.settings.Required {
		if want == "" || slices.ContainsFunc(d.view.Peers, func(p api.Peer) bool { return matches(want, &p) }) {
			continue
		}
		f := &finding{}
		f.raise(levelError, "it is required and not in the whitelist", "hnet whitelist add ADDRESS --hostname "+want)
		if _, err := netip.ParseAddr(want); err == nil {
			f.fix = "hnet whitelist add " + want
			f.HardwareID = want
		}
		f.Message = f.cause
		f.value("required", "true")
		d.add(f, "peer "+want, "", false)
	}
}

// sameAddress compares addresses however they are written.
func sameAddress(want string, p *api.Peer) bool {
	a, err := netip.ParseAddr(want)
	return err == nil && a == p.Address
}

// words takes an error apart into what is wrong and what to do.
func words(err error) (cause, fix string) {
	if err == nil {
		return "", ""
	}
	if e, ok := asAPI(err); ok {
		return e.Text, e.Fix
	}
	return err.Error(), ""
}

func both(text, fix string) string {
	if fix == "" {
		return text
	}
	return text + " (fix: " + fix + ")"
}
