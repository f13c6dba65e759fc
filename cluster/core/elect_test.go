package core

import (
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Symptom: a node that had promised was attached anew, the promise it was asked
// for again was lost, and the primary waited for ever: the time to decide had
// come, which kept it from asking a third time.
func TestAsksAgainAfterReattach(t *testing.T) {
	law := &Charter{Config: Config{Version: 1}}
	pos := Position{T: ondisk.MakeTid(1, 0)}
	law.Lineage = *law.Lineage.WithEpoch(1, Position{})
	ids := []ondisk.UUID{{1}, {2}, {3}}
	for _, id := range ids {
		law.Config.Members = append(law.Config.Members, Member{Fsid: id, Role: ondisk.PFSMaster})
	}
	answer := func(i int) Answer { return Answer{Node: ids[i], Pos: pos, Charter: law, Promised: 1} }
	p := NewPrimary(PrimaryOptions{Wait: time.Second, Retry: 10 * time.Second})
	for i := range ids {
		p.Step(0, Attach{answer(i)})
	}
	p.Step(0, Campaign{})
	say := func(k Kind, i int) {
		a := answer(i)
		p.Step(0, Recv{Msg: &Message{Kind: k, Node: ids[i], Ballot: p.Ballot(), Answer: &a, Yes: true}})
	}
	say(PreVoted, 0)
	say(PreVoted, 1)
	say(Promised, 0)
	say(Promised, 1)
	p.Step(0, Attach{answer(1)})
	asked := false
	for range 20 {
		at, ok := p.Deadline()
		if !ok {
			t.Fatal("nothing is waited for")
		}
		for _, e := range p.Step(at, Tick{}) {
			if s, ok := e.(Send); ok && s.Msg.Kind == Promise && s.Msg.Node == ids[1] {
				asked = true
			}
		}
	}
	if !asked {
		t.Errorf("%v: node 1 is not asked again", p.Phase())
	}
}
