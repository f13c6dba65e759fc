package core

import (
	"slices"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Symptom: the last txg of a change of members was on a node that had left by
// it, and on no other. It was adopted, but the node got no barrier, and the
// masters waited for a copy of the barrier for ever.
func TestGoalsOfBarrier(t *testing.T) {
	master := func(b byte) Member { return Member{Fsid: ondisk.UUID{b}, Role: ondisk.PFSMaster} }
	joint := &Charter{Config: Config{Version: 2, Members: []Member{master(1), master(2), master(3)},
		Joint: []Member{master(2), master(3), master(4)}}}
	final := &Charter{Config: Config{Version: 3, Members: []Member{master(1), master(2), master(3)}}}
	at := func(n uint32) Position { return Position{T: ondisk.MakeTid(1, n), H: History{byte(n)}} }
	p := NewPrimary(PrimaryOptions{Wait: time.Second, Retry: time.Second,
		Make: func(ondisk.Tid, *Charter) (any, [32]byte, int64) { return nil, [32]byte{}, 1 }})
	for _, c := range []*Charter{joint, final} {
		c.Lineage = *c.Lineage.WithEpoch(1, Position{})
	}
	answers := []Answer{
		{Node: ondisk.UUID{1}, Pos: at(4), Charter: joint}, {Node: ondisk.UUID{2}, Pos: at(4), Charter: joint},
		{Node: ondisk.UUID{3}, Pos: at(4), Charter: joint}, {Node: ondisk.UUID{4}, Pos: at(5), Charter: final},
	}
	for _, a := range answers {
		p.Step(0, Attach{a})
	}
	p.Step(0, Campaign{})
	for _, k := range []Kind{PreVoted, Promised} {
		for i := range answers {
			p.Step(0, Recv{Msg: &Message{Kind: k, Node: answers[i].Node, Ballot: p.Ballot(), Answer: &answers[i], Yes: true}})
		}
	}
	if p.Phase() != Barrier || p.Adopted() != at(5) {
		t.Fatalf("%v on %v", p.Phase(), p.Adopted())
	}
	if got := p.Goals(ondisk.UUID{1}); !slices.Equal(got, []Position{p.Head(), at(5)}) {
		t.Errorf("a master may join at %v", got)
	}
	if got := p.Goals(ondisk.UUID{4}); got != nil {
		t.Errorf("who left may join at %v", got)
	}
}
