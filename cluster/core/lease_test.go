package core

import (
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A beat that only asks whether the epoch is still ours, as during the barrier,
// is answered without a lease, and does not count as one.
func TestBeatWithoutLease(t *testing.T) {
	const lease = 600 * time.Millisecond
	node := NewNode(0, ondisk.UUID{1}, Durable{Promised: Ballot{5, 9}}, NodeOptions{Lease: lease})
	for _, asked := range []time.Duration{0, lease / 2, lease} {
		p := &Primary{opt: PrimaryOptions{Lease: lease}, phase: Serving, ballot: Ballot{5, 9}}
		p.addPeer(ondisk.UUID{1}).attached = true
		out := node.Step(time.Second, Recv{Msg: &Message{Kind: Beat, Node: ondisk.UUID{1}, Ballot: p.ballot, Sent: time.Second, Lease: asked}})
		ack := out[0].(Send).Msg
		ack.Node = ondisk.UUID{1}
		p.Step(time.Second, Recv{Msg: ack})
		if got := p.peer(ondisk.UUID{1}).hasBeat; got != (asked == lease) {
			t.Errorf("asked for %v: counted as a lease: %v", asked, got)
		}
	}
}
