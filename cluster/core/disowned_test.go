package core

import (
	"errors"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A member whose charter was damaged under a right code is at the position of
// the others and says that the cluster is another one. It was adopted, and its
// charter written to all: a member fell out, and one that does not exist voted.
func TestDisowned(t *testing.T) {
	id := func(n byte) ondisk.UUID { return ondisk.UUID{n} }
	charter := func(last byte) *Charter {
		c := &Charter{Config: Config{Version: 1}}
		for _, n := range []byte{1, 2, last} {
			c.Config.Members = append(c.Config.Members, Member{Fsid: id(n), Role: ondisk.PFSMaster})
		}
		c.Lineage = *c.Lineage.WithEpoch(5, Position{})
		return c
	}
	at := Position{T: ondisk.MakeTid(5, 7)}
	answers := []Answer{{Node: id(1), Pos: at, Charter: charter(9)}, {Node: id(2), Pos: at, Charter: charter(3)}, {Node: id(3), Pos: at, Charter: charter(3)}}
	a, err := Adopt(answers, 0)
	if err != nil || !a.Charter.Equal(charter(3)) || len(a.Holders) != 2 {
		t.Errorf("adopted %+v, %v", a, err)
	}
	if !Disowned(answers[0], answers) || Disowned(answers[1], answers) {
		t.Error("the wrong one is disowned")
	}
	// One against one: nobody can tell.
	var clash *Conflict
	if _, err := Adopt(answers[:2], 0); !errors.As(err, &clash) {
		t.Errorf("two that disagree: %v", err)
	}
}

// A number that elections never reach is not counted on from: that was a
// panic at the end of the epochs.
func TestEpochsEnd(t *testing.T) {
	p := &Primary{heard: LastEpoch, phase: PreVoting}
	for _, e := range p.promise(0) {
		if r, ok := e.(Refuse); ok && errors.Is(r.Err, ErrEpochs) && p.phase == Stopped {
			return
		}
	}
	t.Errorf("goes on, phase %v", p.phase)
}

// A member that gives no vote cannot use up the epochs of the others, who would
// not promise one so far away.
func TestDamagedMemberIsNotHeard(t *testing.T) {
	wild := Answer{Node: ondisk.UUID{3}, Flags: Tainted, Promised: 3 * MaxEpochJump,
		Pos: Position{T: ondisk.MakeTid(2*MaxEpochJump, 0)}}
	p := NewPrimary(PrimaryOptions{Seed: 1})
	p.Step(0, Attach{Answer: Answer{Node: ondisk.UUID{1}, Promised: 2}})
	p.Step(0, Attach{Answer: wild})
	if p.heard != 2 {
		t.Errorf("heard of epoch %d", p.heard)
	}
	p.Step(0, Campaign{})
	for _, kind := range []Kind{PreVoted, Refused, Stale} {
		p.Step(0, Recv{Msg: &Message{Kind: kind, Node: wild.Node, Ballot: p.ballot, Heard: 3 * MaxEpochJump, Answer: &wild}})
		if p.heard != 2 {
			t.Errorf("kind %v: heard of epoch %d", kind, p.heard)
		}
	}
}
