package cluster

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Who gave a member back by joining lets go of it later still. The next resync
// may hold it by then: it must keep it, and be able to give it back.
func TestLateReleaseLeavesTheNextHold(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "x")
	untilEqual(t, e)
	first, release, err := e.acquireTarget("b.img")
	check(t, err)
	check(t, e.join(first, first.Position))
	untilEqual(t, e)
	second, releaseSecond, err := e.acquireTarget("b.img")
	check(t, err)
	release()
	if err := e.join(first, first.Position); !errors.Is(err, errNotHeld) {
		t.Errorf("the first joins once more: %v", err)
	}
	if _, _, err := e.acquireTarget("b.img"); err == nil {
		t.Error("two hold it")
	}
	put(t, e, 2000, "y")
	check(t, e.join(second, second.Position))
	releaseSecond()
	untilEqual(t, e)
	put(t, e, 2000, "z")
	untilEqual(t, e)
	check(t, e.close(c.ctx))
}

// What looks at a pool while it closes, as metrics do, gets an answer.
func TestClosedPoolAnswers(t *testing.T) {
	t.Parallel()
	p := newTestCluster(t, 3).openPool(Options{})
	check(t, p.Close(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Status()
		p.StatFS()
		if _, _, err := p.Inode(t.Context(), 1); !errors.Is(err, ErrPoolClosed) {
			t.Errorf("a read: %v", err)
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not answer")
	}
}

// Symptom: when nobody but one member had the adopted state, two copies of it
// were begun for the first that lacked it. The second held that member when it
// had long been in sync, and what was committed meanwhile did not get there.
func TestOneCopyOfTheAdoptedState(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "x")
	untilEqual(t, e)
	var held, again []string
	list := func() (names []string) {
		for _, m := range e.members {
			if m.hold != nil {
				names = append(names, m.spec.Name)
			}
		}
		return names
	}
	e.ask(func() {
		was := e.primary
		e.primary = barrierAlone(t, e)
		for _, m := range e.members[1:] {
			e.behind(core.Behind{Node: m.fsid, Urgent: true})
		}
		held = list()
		e.copyNext()
		again = list()
		e.primary = was
		e.attach(e.members[2], e.members[2].conn.state())
	})
	if len(held) != 1 || held[0] != "b.img" || !slices.Equal(again, held) {
		t.Errorf("held for a copy are %v, and then %v", held, again)
	}
	untilEqual(t, e)
	check(t, e.close(c.ctx))
}

// barrierAlone is a primary whose barrier only the first member can take: it
// has one of before that the others lack.
func barrierAlone(t *testing.T, e *engine) *core.Primary {
	t.Helper()
	p := core.NewPrimary(core.PrimaryOptions{Seed: 1, Wait: restWait, Retry: resendAfter, Make: CharterTxg})
	var answers []core.Answer
	for i, m := range e.members {
		d := m.conn.state()
		a := d.Answer(m.fsid)
		if i == 0 {
			law := *a.Charter
			law.Lineage = *law.Lineage.WithEpoch(a.Promised+1, a.Pos)
			a.Charter, a.Promised, a.Acked = &law, a.Promised+1, 0
			a.Pos = Position{T: ondisk.MakeTid(a.Promised, 0), H: History{1}}
		}
		answers = append(answers, a)
		p.Step(0, core.Attach{Answer: a})
	}
	p.Step(0, core.Campaign{})
	for _, k := range []core.Kind{core.PreVoted, core.Promised} {
		for i := range answers {
			p.Step(0, core.Recv{Msg: &core.Message{Kind: k, Node: answers[i].Node, Ballot: p.Ballot(), Answer: &answers[i], Yes: true}})
		}
	}
	if p.Phase() != core.Barrier || p.Quorum() {
		t.Errorf("%v, quorum %v, on %v", p.Phase(), p.Quorum(), p.Adopted())
	}
	return p
}
