package command

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
	"github.com/hnet-robotics/hnet_bridge/overlay/doctor"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
)

// unwell is the diagnosis of a peer that does not answer, beside a Base that is dead.
func unwell() api.Diagnosis {
	return doctor.Diagnose(doctor.Findings{
		Address: self.Address(), Port: 5582, Links: doctor.Links{Known: true, IPv4: 1},
		NAT: nat.Result{Mapping: nat.MappingIndependent, Filtering: nat.FilteringAddressPort}, UDP4: doctor.ReachWorks, UDP6: doctor.ReachAbsent,
		Bases: []doctor.Base{
			{Address: base.Address(), Host: "198.51.100.7", UDP: 5582, State: api.BaseRegistered, Transport: "udp"},
			{Address: away.Address(), Host: "base.example.org", UDP: 5582, TCP: 443, State: api.BaseUnreachable, LastError: "no answer"},
		},
		Whitelist: true,
		Peer: &doctor.Peer{
			Address: robot.Address(), Hostname: "robot2", Whitelisted: true, KeyKnown: true, State: api.Unreachable, Path: api.PathNone, Handshake: doctor.Handshake{Tried: true},
			Candidates: []doctor.Candidate{{Endpoint: netip.MustParseAddrPort("203.0.113.5:5582"), Path: api.PathDirect, Outcome: doctor.Silent}},
		},
	})
}

func well() api.Diagnosis {
	return api.Diagnosis{Checks: []api.Check{
		{Name: "network", Status: api.CheckOK, Detail: "IPv4 and IPv6"},
		{Name: "port_mapping", Status: api.CheckSkip, Detail: "off"},
		{Name: "base:" + base.Address().String(), Status: api.CheckOK, Detail: "Base 198.51.100.7 by udp, 23.0 ms"},
	}}
}

func TestDoctor(t *testing.T) {
	warned := well()
	warned.Checks[1].Status, warned.Cause, warned.Fix = api.CheckWarn, "the router maps no port\x1b[2J", "switch on UPnP"
	tests := []struct {
		name, line string
		diagnosis  api.Diagnosis
		locale     string // of a terminal; "" = there is none
		code       int
	}{
		{"doctor", "doctor", well(), "", 0},
		{"doctor-json", "doctor --json", well(), "", 0},
		{"doctor-warn", "doctor", warned, "", 0},
		{"doctor-terminal", "doctor", warned, "de_DE.UTF-8", 0},
		{"doctor-ascii", "doctor", warned, "C", 0},
		{"doctor-peer", "doctor robot2", unwell(), "", 1},
		{"doctor-peer-json", "doctor robot2 --json", unwell(), "", 1},
		{"doctor-peer-terminal", "doctor " + robot.Address().String(), unwell(), "C.utf8", 1},
		{"doctor-nothing", "doctor", api.Diagnosis{}, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := node()
			n.Diagnosis = tt.diagnosis
			run, _ := apitest.Serve(t, n, api.Options{Credentials: asRoot})
			w := newWorld(run)
			if tt.locale != "" {
				w.terminal(80, 24)
				w.env["LANG"] = tt.locale
			}
			if code := Run(t.Context(), w.Env, strings.Fields(tt.line)); code != tt.code || w.err.String() != "" {
				t.Errorf("exit code %d, want %d; stderr %q", code, tt.code, w.err.String())
			}
			golden(t, tt.name, strings.ReplaceAll(w.out.String(), "\x1b", "^"))
		})
	}
}

func TestDoctorRefusals(t *testing.T) {
	run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	for _, tt := range []struct {
		line, want string
		code       int
	}{
		{"doctor nobody", "nobody is called nobody: see 'hnet host ls', or use the address", 1},
		{"doctor a b", "unexpected argument \"b\": see 'hnet doctor --help'", 2},
	} {
		w := newWorld(run)
		if code := Run(t.Context(), w.Env, strings.Fields(tt.line)); code != tt.code || w.err.String() != "hnet: "+tt.want+"\n" {
			t.Errorf("hnet %s: exit code %d, stderr %q", tt.line, code, w.err.String())
		}
	}
}

// The locale is LC_ALL's, else LC_CTYPE's, else LANG's.
func TestSymbols(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"LANG": "en_US.UTF-8"}, true},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_CTYPE": "C"}, false},
		{map[string]string{"LANG": "C", "LC_ALL": "C.utf8"}, true},
		{map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": "POSIX"}, false},
	} {
		w := newWorld(t.TempDir())
		w.terminal(80, 24)
		for k, v := range tt.env {
			w.env[k] = v
		}
		if got := (&app{Env: w.Env}).symbols(); got != tt.want {
			t.Errorf("%v: %v", tt.env, got)
		}
	}
}
