package node

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// statuses are the outcomes of a diagnosis' checks.
func statuses(d api.Diagnosis) map[string]api.CheckStatus {
	all := make(map[string]api.CheckStatus)
	for _, c := range d.Checks {
		all[c.Name] = c.Status
	}
	return all
}

func TestDoctor(t *testing.T) {
	a, b := start(t, nil), start(t, nil)
	d, err := a.Doctor(t.Context(), netip.Addr{})
	// A machine without any network is told so, whatever this test wants.
	if s := statuses(d); err != nil || d.Failed() != (s["network"] == api.CheckFail) || d.Peer.IsValid() {
		t.Errorf("a node alone: %v, %+v", err, d)
	}

	trust(a, b)
	a.awaitUp(b.identity.Address())
	d, err = a.Doctor(t.Context(), b.identity.Address())
	if s := statuses(d); err != nil || d.Failed() || d.Peer != b.identity.Address() || s["handshake"] != api.CheckOK || s["whitelist"] != api.CheckOK || s["path"] != api.CheckOK {
		t.Errorf("a peer that is connected: %v, %+v", err, d)
	}

	stranger := identity.FromSeed([32]byte{9}).Address()
	d, err = a.Doctor(t.Context(), stranger)
	if err != nil || !d.Failed() || d.Fix != "run here: hnet whitelist add "+stranger.String() {
		t.Errorf("a peer that is not whitelisted: %v, %+v", err, d)
	}

	a.mustAdd(api.WhitelistAdd{Address: stranger, Hostname: "ghost"})
	d, err = a.Doctor(t.Context(), stranger)
	if err != nil || !d.Failed() || d.Hostname != "ghost" || !strings.HasPrefix(d.Cause, "no Base is configured and ghost is not on this LAN") {
		t.Errorf("a peer that nobody has heard of: %v, %+v", err, d)
	}

	d, err = a.Doctor(t.Context(), a.identity.Address())
	if err != nil || !strings.HasSuffix(d.Cause, "is this node itself") {
		t.Errorf("the node itself: %v, %+v", err, d)
	}
}
