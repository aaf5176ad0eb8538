package hnet

import (
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
)

// parameters are the node's. What decides who may change things, or what runs with which rights, is read-only: the ROS graph authenticates nobody.
type parameters struct {
	runFolder, configFile, stateFolder *ros.Parameter[string]
	embedded, allowRemote              *ros.Parameter[bool]

	publishRate, diagnosticsRate                                        *ros.Parameter[float64]
	rttWarn, rttError, lossWarn, lossError, connectingWarn, staleAfter  *ros.Parameter[float64]
	warnOnRelay                                                         *ros.Parameter[bool]
	required                                                            *ros.Parameter[[]string]
	ownFrame, peerFrame                                                 *ros.Parameter[string]
	markersRate, markersRingRadius, markersLineWidth, markersTextHeight *ros.Parameter[float64]
}

// declarer declares parameters until one fails.
type declarer struct {
	node *ros.Node
	err  error
}

func declare[T ros.ParameterType](d *declarer, name string, def T, description string, opts ...ros.ParameterOption) *ros.Parameter[T] {
	if d.err != nil {
		return nil
	}
	p, err := ros.DeclareParameter(d.node, name, def, append(opts, ros.Description(description))...)
	d.err = err
	return p
}

func declareParameters(n *ros.Node, paths config.Paths) (*parameters, error) {
	d := &declarer{node: n}
	fixed := ros.ReadOnly()
	from := ros.RangeFloat
	p := &parameters{
		runFolder: declare(d, "run_folder", paths.Run, "Folder of hnetd's socket.", fixed),
		embedded: declare(d, "embedded", false, "Host the overlay in this process instead of using hnetd. Needs hnetd's rights: root, or CAP_NET_ADMIN and /dev/net/tun.",
			fixed),
		configFile:  declare(d, "config_file", paths.Config, "Configuration file of the embedded overlay; may be missing.", fixed),
		stateFolder: declare(d, "state_folder", paths.State, "Folder of the embedded overlay's identity and whitelist.", fixed),
		allowRemote: declare(d, "allow_remote_management", false, "Let anyone in the ROS graph change the whitelist, names and parameters. Otherwise only this host's "+
			"root, the node's user and the members of group hnet may. DDS authenticates nobody.", fixed),

		publishRate: declare(d, "publish_rate", 1.0, "How often ~/peers and ~/status are published when nothing happens [Hz].", from(0.1, 10, 0)),
		diagnosticsRate: declare(d, "diagnostics_rate", 1.0, "How often /diagnostics is published [Hz]. Aggregators take what is 5 s old for stale.",
			from(0.1, 10, 0)),

		rttWarn:        declare(d, "rtt_warn", 0.25, "Round-trip time to a peer from which on diagnostics warn [s].", from(0, 60, 0)),
		rttError:       declare(d, "rtt_error", 1.0, "Round-trip time to a peer that is an error [s].", from(0, 60, 0)),
		lossWarn:       declare(d, "loss_warn", 0.05, "Part of the packets lost on the way to a peer from which on diagnostics warn.", from(0, 1, 0)),
		lossError:      declare(d, "loss_error", 0.3, "Part of the packets lost on the way to a peer that is an error.", from(0, 1, 0)),
		connectingWarn: declare(d, "connecting_warn", 10.0, "How long a way to a peer or a Base may be sought before diagnostics warn [s].", from(0, 3600, 0)),
		staleAfter:     declare(d, "stale_after", 5.0, "Age of hnetd's last answer from which on diagnostics are stale [s].", from(1, 3600, 0)),
		warnOnRelay:    declare(d, "warn_on_relay", false, "Warn of peers that are reached through a Base only."),
		required: declare(d, "required_peers", []string{}, "Peers without which the robot cannot work: their absence is an error, others' a warning.",
			ros.Constraints("Addresses or hostnames.")),

		markersRate: declare(d, "markers.rate", 2.0, "How often ~/markers is published [Hz], 0: never.", from(0, 30, 0)),
		ownFrame:    declare(d, "markers.own_frame", "base_link", "Frame of this robot, in which links are drawn."),
		peerFrame: declare(d, "markers.peer_frame", "{hostname}/base_link", "Frame of a peer.",
			ros.Constraints("{hostname} stands for the peer's hostname, or its address if it has none; {address} for its address, with _ for the colons.")),
		markersRingRadius: declare(d, "markers.ring_radius", 2.0, "Distance from this robot at which peers are drawn whose frame tf does not know [m], 0: they are not drawn.",
			from(0, 1000, 0)),
		markersLineWidth:  declare(d, "markers.line_width", 0.05, "Width of the lines [m].", from(0.001, 10, 0)),
		markersTextHeight: declare(d, "markers.text_height", 0.3, "Height of the labels' letters [m].", from(0.01, 10, 0)),
	}
	if d.err != nil {
		return nil, d.err
	}
	n.CheckParameters(p.check)
	return p, p.check(nil)
}

// check refuses thresholds that contradict each other.
func (p *parameters) check(changes []param.Parameter) error {
	value := func(q *ros.Parameter[float64]) float64 {
		for _, c := range changes {
			if v, ok := param.As[float64](c.Value); ok && c.Name == q.Name() {
				return v
			}
		}
		return q.Get()
	}
	for _, pair := range [][2]*ros.Parameter[float64]{{p.rttWarn, p.rttError}, {p.lossWarn, p.lossError}} {
		if low, high := value(pair[0]), value(pair[1]); low > high {
			return fmt.Errorf("parameter %s is %v and must not be above %s, which is %v", pair[0].Name(), low, pair[1].Name(), high)
		}
	}
	return nil
}

// settings are the values of the moment.
func (p *parameters) settings() *Settings {
	return &Settings{
		RTTWarn: duration(p.rttWarn.Get()), RTTError: duration(p.rttError.Get()),
		LossWarn: p.lossWarn.Get(), LossError: p.lossError.Get(),
		ConnectingWarn: duration(p.connectingWarn.Get()), StaleAfter: duration(p.staleAfter.Get()),
		WarnOnRelay: p.warnOnRelay.Get(), Required: p.required.Get(),
		Markers: MarkerSettings{
			OwnFrame: p.ownFrame.Get(), PeerFrame: p.peerFrame.Get(), RingRadius: p.markersRingRadius.Get(),
			LineWidth: p.markersLineWidth.Get(), TextHeight: p.markersTextHeight.Get(), Period: period(p.markersRate.Get()),
		},
	}
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// period is the time between two publications; of a rate of 0, a second, after which to look again.
func period(rate float64) time.Duration {
	if rate <= 0 {
		return time.Second
	}
	return duration(1 / rate)
}
