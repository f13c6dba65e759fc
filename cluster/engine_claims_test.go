package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// image is what a member holds now, for a disk that will be found to have lied
// or a member that is used apart from the others.
func (c *testCluster) image(i int) *memdev.Device { return c.disks[i].Clone() }

// A disk that lied about flushes and another that lags are two of three. What
// was acknowledged is on the third, whose txgs say who had them.
func TestEngineFindsLiar(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	put(t, e, 2000, "kept")
	untilEqual(t, e)
	check(t, e.offline(c.ctx, "c.img"))
	put(t, e, 2001, "kept")
	lied := c.image(0)
	for i := range 3 {
		put(t, e, uint64(2002+i), "acknowledged")
	}
	untilStates(t, e, "in-sync in-sync offline")
	b := c.image(1) // the power goes
	check(t, e.close(c.ctx))
	c.disks[0], c.disks[1] = lied, b
	e = c.mustStart(Options{})
	untilStates(t, e, "tainted in-sync in-sync")
	if rs := e.nodes(); rs[0].Err != whyLost {
		t.Errorf("the liar is %q", rs[0].Err)
	}
	for _, s := range get(t, e, 2004) {
		if s != "acknowledged" {
			t.Errorf("what was acknowledged is %q", s)
		}
	}
}

// After an unmount it is known of the last txg too who had it.
func TestEngineSealsAtClose(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{})
	check(t, e.offline(c.ctx, "c.img"))
	put(t, e, 2000, "kept")
	lied := c.image(0)
	put(t, e, 2001, "acknowledged")
	before := e.committed()
	check(t, e.close(c.ctx))
	m, d := c.media(1)
	check(t, m.Volume().Close())
	if d.Pos.T != before.T+1 || d.Acked != 3 {
		t.Errorf("b.img is left at %v, acked by %b", d.Pos, d.Acked)
	}
	c.disks[0] = lied
	e = c.mustStart(Options{})
	untilStates(t, e, "tainted in-sync in-sync")
	// Nothing was written: there is nothing to seal.
	at := e.committed()
	check(t, e.close(c.ctx))
	if m, d = c.media(1); d.Pos != at {
		t.Errorf("sealed at %v what was at %v", d.Pos, at)
	}
	check(t, m.Volume().Close())
}

// When nothing is written for a while the last txg is sealed, once.
func TestEngineSealsWhenIdle(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	e := c.mustStart(Options{Deadline: time.Second})
	put(t, e, 2000, "content")
	at := e.committed()
	idle := func() { e.ask(func() { e.written = e.now() - 2*sealAfter; e.sealIdle() }) }
	idle()
	until(t, e, "an empty txg", func([]NodeReport) bool { return e.committed().T == at.T+1 })
	untilEqual(t, e)
	idle()
	put(t, e, 2001, "content") // behind whatever would be under way
	if now := e.committed(); now.T != at.T+2 {
		t.Errorf("at %v after one empty txg and one with content on %v", now, at)
	}
}

// split makes two histories of one cluster: members 0 and 1 go on in one, 1
// and 2 in the other, in which there were more elections.
func split(t *testing.T) *testCluster {
	c := newTestCluster(t, 3)
	c.life("before")
	apart := c.image(1)
	c.life("ours", 0, 1)
	c.disks[1] = apart
	c.life("theirs", 1, 2)
	c.life("again", 1, 2)
	return c
}

// life is a mount of some members that writes a file.
func (c *testCluster) life(content string, members ...int) {
	c.t.Helper()
	e := c.mustStart(Options{}, members...)
	put(c.t, e, 2000+uint64(len(content)), content)
	check(c.t, e.close(c.ctx))
}

// Symptom: members of two histories were mounted as one if there had been more
// elections in one of them, and what the other had acknowledged was dropped.
func TestEngineRefusesTwoHistories(t *testing.T) {
	t.Parallel()
	c := split(t)
	_, err := c.start(Options{})
	if err == nil {
		t.Fatal("two histories were mounted as one")
	}
	for _, want := range []string{"a.img", "different"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal does not say %q: %v", want, err)
		}
	}
	e := c.mustStart(Options{ReadOnly: true}, 0)
	if got := get(t, e, 2004); len(got) != 1 || got[0] != "ours" {
		t.Errorf("one side alone shows %q", got)
	}
	check(t, e.close(c.ctx))
}

// The operator mounts one side, which is a majority, and decides about the other.
func TestEngineOneOfTwoHistories(t *testing.T) {
	t.Parallel()
	c := split(t)
	c.gone[0] = true
	e := c.mustStart(Options{})
	c.gone[0] = false
	check(t, e.online(c.ctx, "a.img"))
	untilStates(t, e, "foreign in-sync in-sync")
	if rs := e.nodes(); rs[0].Err != whyDisputed || rs[0].Remedy == "" {
		t.Errorf("it is %q, %q", rs[0].Err, rs[0].Remedy)
	}
	put(t, e, 2100, "goes on")
	check(t, e.discard(c.ctx, "a.img"))
	untilStates(t, e, "tainted in-sync in-sync")
	target, release, err := e.acquireTarget("a.img")
	check(t, err)
	if target.Position.IsZero() || !target.Foreign {
		t.Errorf("what is kept of it: %v", target.Position)
	}
	release()
}
