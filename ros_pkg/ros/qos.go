package ros

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
)

// QoS is the quality of service of a publisher or subscription. The zero value is the default of ROS: reliable, volatile, the last 10 messages
// kept. A duration of 0 means no limit.
type QoS struct {
	BestEffort     bool // lost messages are not sent again
	TransientLocal bool // a subscription that comes late gets what the publisher still keeps
	Depth          int  // messages kept; 0 means 10
	KeepAll        bool // all that a reliable subscription has not acknowledged; Publish then waits for room

	Deadline        time.Duration // a message is expected at least this often
	Lifespan        time.Duration // a message is of no use after that
	ManualByTopic   bool          // a publisher is alive by publishing, not by its process
	LivelinessLease time.Duration
}

// Profiles of ROS. The zero QoS is the default profile.
var (
	QoSSensor          = QoS{BestEffort: true, Depth: 5}
	QoSServices        = QoS{Depth: 10}
	QoSParameters      = QoS{Depth: 1000}
	QoSParameterEvents = QoS{Depth: 1000}
	QoSRosout          = QoS{TransientLocal: true, Depth: 1000, Lifespan: 10 * time.Second}
	QoSState           = QoS{TransientLocal: true, Depth: 1} // the state of something: late subscriptions get the newest message
	QoSClock           = QoS{BestEffort: true, Depth: 1}
)

// maxKeepAll is how many messages wait for the callback of a KeepAll subscription.
const maxKeepAll = 1024

func (q QoS) depth() int {
	switch {
	case q.KeepAll:
		return maxKeepAll
	case q.Depth <= 0:
		return 10
	}
	return q.Depth
}

func (q QoS) rtps() rtps.QoS {
	out := rtps.QoS{Reliability: rtps.Reliable, Durability: rtps.Volatile, History: rtps.KeepLast, Depth: q.depth(),
		Deadline: q.Deadline, Lifespan: q.Lifespan, LivelinessLease: q.LivelinessLease}
	if q.BestEffort {
		out.Reliability = rtps.BestEffort
	}
	if q.TransientLocal {
		out.Durability = rtps.TransientLocal
	}
	if q.KeepAll {
		out.History, out.Depth = rtps.KeepAll, 0
	}
	if q.ManualByTopic {
		out.Liveliness = rtps.ManualByTopic
	}
	return out
}

func qosFrom(q rtps.QoS) QoS {
	return QoS{BestEffort: q.Reliability == rtps.BestEffort, TransientLocal: q.Durability >= rtps.TransientLocal, Depth: q.Depth,
		KeepAll: q.History == rtps.KeepAll, Deadline: q.Deadline, Lifespan: q.Lifespan,
		ManualByTopic: q.Liveliness == rtps.ManualByTopic, LivelinessLease: q.LivelinessLease}
}
