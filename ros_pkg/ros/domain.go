package ros

import (
	"context"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// domain is what is needed of an [rtps.Participant]. Its callbacks come one at a time, perhaps while one of its methods runs: no lock that a
// callback takes may be held while a method is called.
type domain interface {
	GUID() wire.GUID
	NewWriter(rtps.WriterConfig) (writer, error)
	NewReader(rtps.ReaderConfig) (reader, error)
	Graph() rtps.Graph
	Subscribe(func(rtps.GraphEvent))
	Run(context.Context) error
}

type writer interface {
	GUID() wire.GUID
	Write(payload []byte, o rtps.WriteOptions) (wire.SequenceNumber, error)
	Matched() []rtps.Endpoint
	WaitAcked(context.Context) error
	Close() error
}

type reader interface {
	GUID() wire.GUID
	Matched() []rtps.Endpoint
	Close() error
}

// hearer is a reader that can tell whether a matched writer has answered it, and so knows it. Discovery goes both ways by itself: for a moment one side may
// know of a match, and the other not yet.
type hearer interface{ Heard(writer wire.GUID) bool }

// participant makes an rtps.Participant a domain.
type participant struct{ *rtps.Participant }

func (p participant) NewWriter(c rtps.WriterConfig) (writer, error) {
	w, err := p.Participant.NewWriter(c)
	if err != nil {
		return nil, err
	}
	return w, nil
}

func (p participant) NewReader(c rtps.ReaderConfig) (reader, error) {
	r, err := p.Participant.NewReader(c)
	if err != nil {
		return nil, err
	}
	return r, nil
}
