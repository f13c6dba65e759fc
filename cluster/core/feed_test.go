package core

import (
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// leading is a primary of three masters that serves, and sends to nobody what
// it made: the tests say who acknowledges what.
func leading(t *testing.T) (p *Primary, ids []ondisk.UUID, answer func(int) Answer) {
	t.Helper()
	law := &Charter{Config: Config{Version: 1}}
	law.Lineage = *law.Lineage.WithEpoch(1, Position{})
	ids = []ondisk.UUID{{1}, {2}, {3}}
	for _, id := range ids {
		law.Config.Members = append(law.Config.Members, Member{Fsid: id, Role: ondisk.PFSMaster})
	}
	answer = func(i int) Answer {
		return Answer{Node: ids[i], Pos: Position{T: ondisk.MakeTid(1, 0)}, Charter: law, Promised: 1}
	}
	p = NewPrimary(PrimaryOptions{Wait: time.Second, Retry: 10 * time.Second, Window: 1 << 20,
		Make: func(ondisk.Tid, *Charter) (any, [32]byte, int64) { return nil, [32]byte{}, 1 }})
	for i := range ids {
		p.Step(0, Attach{answer(i)})
	}
	p.Step(0, Campaign{})
	for _, k := range []Kind{PreVoted, Promised} {
		for i := range ids {
			a := answer(i)
			p.Step(0, Recv{Msg: &Message{Kind: k, Node: ids[i], Ballot: p.Ballot(), Answer: &a, Yes: true}})
		}
	}
	for i := range ids {
		p.Step(0, Recv{Msg: &Message{Kind: Ack, Node: ids[i], Ballot: p.Ballot(), Pos: p.Head()}})
	}
	if p.Phase() != Serving {
		t.Fatalf("%v", p.Phase())
	}
	return p, ids, answer
}

// Symptom: a node whose acknowledgements came in another order than it was
// asked, since it had been attached anew at a state it had left meanwhile, got
// no txg any more until the next one was made, and an unmount waited for it.
func TestFeedGoesOnAfterOlderFact(t *testing.T) {
	p, ids, answer := leading(t)
	var made []Position
	for range 4 {
		p.Step(0, Propose{Size: 1})
		made = append(made, p.Head())
		for i := range 2 {
			p.Step(0, Recv{Msg: &Message{Kind: Ack, Node: ids[i], Ballot: p.Ballot(), Pos: p.Head()}})
		}
	}
	at := answer(2)
	at.Pos, at.Promised = made[0], p.Ballot().Epoch
	p.Step(0, Attach{at})
	sent := made[1]
	hear := func(pos Position) {
		for _, e := range p.Step(0, Recv{Msg: &Message{Kind: Ack, Node: ids[2], Ballot: p.Ballot(), Pos: pos}}) {
			if s, ok := e.(Send); ok && s.Msg.Kind == Apply {
				sent = s.Msg.Txg.Pos
			}
		}
	}
	hear(made[2]) // it was there all the time
	hear(made[1]) // what it was asked for
	if sent != made[3] {
		t.Errorf("the last txg it got is %v, the last one made is %v", sent.T, made[3].T)
	}
}

// Symptom: a member that was away during a rollback was sent it and what came
// after, had no such snapshot, and failed each time anew.
func TestRollbackIsNotReplayed(t *testing.T) {
	for _, later := range []int{0, 1, 3} {
		p, ids, answer := leading(t)
		propose := func(c *Charter) Position {
			p.Step(0, Propose{Size: 1, Charter: c})
			for i := range 2 {
				p.Step(0, Recv{Msg: &Message{Kind: Ack, Node: ids[i], Ballot: p.Ballot(), Pos: p.Head()}})
			}
			return p.Head()
		}
		before := propose(nil)
		law := *p.Charter()
		law.Lineage = *law.Lineage.WithRollback(p.NextT(), before.T)
		propose(&law)
		for range later {
			propose(nil)
		}
		at := answer(2)
		at.Pos, at.Promised = before, p.Ballot().Epoch
		var sent, behind int
		for _, e := range p.Step(0, Attach{at}) {
			switch e.(type) {
			case Send:
				sent++
			case Behind:
				behind++
			}
		}
		// One that comes before the next txg may have gone just now: it is sent
		// the rollback, and says so if it cannot.
		if want := min(later, 1); behind != want || sent != 1-want {
			t.Errorf("%d txgs later: sent %d txgs, found behind %d times", later, sent, behind)
		}
	}
}

// Symptom: a member that came back without the snapshot just when it was rolled
// back to was sent the rollback each time that it was opened again, and failed
// each time anew, until something was written.
func TestRollbackIsSentOnce(t *testing.T) {
	t.Run("rollback", func(t *testing.T) {
		sentOnce(t, func(p *Primary) Propose {
			law := *p.Charter()
			law.Lineage = *law.Lineage.WithRollback(p.NextT(), p.Head().T)
			return Propose{Size: 1, Charter: &law}
		})
	})
	// So is one that takes blocks from a snapshot.
	t.Run("share", func(t *testing.T) {
		sentOnce(t, func(*Primary) Propose { return Propose{Size: 1, Snapshot: true} })
	})
}

func sentOnce(t *testing.T, what func(p *Primary) Propose) {
	t.Helper()
	p, ids, answer := leading(t)
	before := p.Head()
	p.Step(0, what(p))
	p.Step(0, Recv{Msg: &Message{Kind: Failed, Node: ids[2], Ballot: p.Ballot()}})
	at := answer(2)
	at.Pos, at.Promised = before, p.Ballot().Epoch
	again := func() (sent, behind int) {
		p.Step(0, Detach{ids[2]})
		for _, e := range p.Step(0, Attach{at}) {
			switch e.(type) {
			case Send:
				sent++
			case Behind:
				behind++
			}
		}
		return sent, behind
	}
	// Until it is committed there is nothing to be copied.
	if sent, behind := again(); sent != 1 || behind != 0 {
		t.Errorf("before it is committed: sent %d txgs, found behind %d times", sent, behind)
	}
	for i := range 2 {
		p.Step(0, Recv{Msg: &Message{Kind: Ack, Node: ids[i], Ballot: p.Ballot(), Pos: p.Head()}})
	}
	if sent, behind := again(); sent != 0 || behind != 1 {
		t.Errorf("afterwards: sent %d txgs, found behind %d times", sent, behind)
	}
}
