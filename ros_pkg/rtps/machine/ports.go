package machine

// Parameters of the well-known ports (9.6.1.1).
const (
	portBase        = 7400 // PB
	domainGain      = 250  // DG
	participantGain = 2    // PG
	metaMulticast   = 0    // d0
	metaUnicast     = 10   // d1
	userMulticast   = 1    // d2
	userUnicast     = 11   // d3

	// MaxDomain is the last domain whose ports exist.
	MaxDomain = 232
	// MaxIndex is the last participant index whose ports do not run into those of the next domain.
	MaxIndex = (domainGain - userUnicast - 1) / participantGain
)

// Ports are the UDP ports of a participant.
type Ports struct {
	Multicast uint16 // of discovery, all participants of the domain
	Meta      uint16 // of discovery, unicast
	User      uint16 // of samples, unicast
}

// WellKnown returns the ports of a participant index, 0 to MaxIndex.
func WellKnown(domain, index int) Ports {
	base := portBase + domainGain*domain
	return Ports{
		Multicast: uint16(base + metaMulticast),
		Meta:      uint16(base + metaUnicast + participantGain*index),
		User:      uint16(base + userUnicast + participantGain*index),
	}
}
