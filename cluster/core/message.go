package core

import (
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Kind is the kind of a message.
type Kind uint8

// Messages of a primary, then answers of a node.
const (
	PreVote Kind = iota + 1
	Promise
	Apply
	Beat

	PreVoted
	Promised
	Refused
	Ack
	Need
	Stale
	NoSpace
	Failed
	BeatAck
)

var kindNames = [...]string{"?", "prevote", "promise", "apply", "beat",
	"prevoted", "promised", "refused", "ack", "need", "stale", "nospace", "failed", "beatack"}

func (k Kind) String() string { return kindNames[min(int(k), len(kindNames)-1)] }

// A Message travels between a primary and a node. Immutable.
type Message struct {
	Kind   Kind
	Node   ondisk.UUID // the node it goes to or comes from
	Ballot Ballot      // of the primary; in an answer: of the message answered
	Txg    *Txg        // Apply
	Whole  bool        // Apply: a copy of the whole state, whatever was there
	Pos    Position    // Ack: what is durable; Need: the Prev it did not fit
	Answer *Answer     // PreVoted, Promised, Need
	Heard  uint32      // Refused, Stale, PreVoted: the epoch promised
	Yes    bool        // PreVoted
	Wait   time.Duration

	Committed ondisk.Tid    // Apply, Beat
	Sent      time.Duration // Beat, BeatAck: the primary's clock
	Lease     time.Duration // Beat: asked for; BeatAck: granted
}

// An Answer is what a node says about itself.
type Answer struct {
	Node        ondisk.UUID
	Pos         Position
	Charter     *Charter // nil if it has none
	Promised    uint32
	Incarnation ondisk.UUID
	Flags       Flags
	Acked       uint64 // of the txg at Pos
}

// Flags say why a node does not count.
type Flags uint8

// The flags.
const (
	Foreign  Flags = 1 << iota // changed by somebody else
	Tainted                    // lost what it had acknowledged
	Disputed                   // has committed txgs of another history
)

func (f Flags) String() string {
	switch {
	case f&Foreign != 0:
		return "foreign"
	case f&Tainted != 0:
		return "tainted"
	case f&Disputed != 0:
		return "of another history"
	}
	return ""
}

// An Event is something that happened: one of the types below.
type Event interface{ event() }

// An Effect is something to do: one of the types below.
type Effect interface{ effect() }

// Recv delivers a message. From is whom to answer, for nodes only.
type Recv struct {
	From int
	Msg  *Message
}

// Send asks to send a message. To is meaningful for nodes only: the From of
// the message it answers.
type Send struct {
	To  int
	Msg *Message
}

func (Recv) event()  {}
func (Send) effect() {}
