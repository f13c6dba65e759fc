package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
)

// An action is something that may happen next.
type action struct {
	name string
	at   process
	run  func(*runner)
}

// actions lists what may happen in s.
func (x *explorer) actions(s *state) []action {
	var as []action
	add := func(at process, run func(*runner), name string, args ...any) {
		if s.focus == 0 || s.focus == at {
			as = append(as, action{fmt.Sprintf(name, args...), at, run})
		}
	}
	for i, m := range s.msgs {
		at := primProcess(m.p)
		if m.toNode {
			at = nodeProcess(m.n)
		}
		add(at, func(r *runner) { r.take(i); r.deliver(m) }, "%s", m.sortable)
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		if n.job != nil {
			add(nodeProcess(i), func(r *runner) { r.finish(i) }, "n%d: job ends", i)
		}
		lossless := !n.core.Busy() && n.core.State() == n.disk
		if s.crashes < x.scope.Crashes && !lossless {
			add(nodeProcess(i), func(r *runner) { r.crash(i) }, "n%d: power cut", i)
		}
	}
	for i := range s.prims {
		x.primActions(s, i, func(run func(*runner), name string) { add(primProcess(i), run, "p%d: %s", i, name) })
	}
	if s.losses < x.scope.Losses {
		for i, m := range s.msgs {
			add(0, func(r *runner) { r.take(i); r.s.losses++ }, "lost: %s", m.sortable)
		}
	}
	return as
}

// primActions lists what a primary may do by itself.
func (x *explorer) primActions(s *state, i int, add func(run func(*runner), name string)) {
	p := &s.prims[i]
	if s.dead(i, &x.scope) {
		return
	}
	if p.core.Phase() == core.Promising {
		if _, ok := p.core.Deadline(); ok {
			add(func(r *runner) { r.prim(i, exploreWait, core.Tick{}) }, "waits no longer")
		}
	}
	if p.core.Free() && p.proposals < x.scope.Proposals {
		add(func(r *runner) { r.propose(i) }, "proposes")
	}
	if p.campaigns < x.scope.Campaigns {
		add(func(r *runner) {
			r.s.prims[i].campaigns++
			r.s.prims[i].over = false
			r.prim(i, 0, core.Campaign{})
		}, "campaigns")
	}
}

// A runner makes one step in a state that is its own.
type runner struct {
	x   *explorer
	s   *state
	err error

	heard bool // others may notice what was done
}

func (r *runner) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *runner) take(i int) { r.s.msgs = slices.Delete(r.s.msgs, i, i+1) }

// post puts a message on its way. Equal ones that are on their way already
// would lead nowhere new.
func (r *runner) post(m smsg) {
	dir := "<"
	if m.toNode {
		dir = ">"
	}
	m.sortable = fmt.Sprintf("p%d %s n%d: %s", m.p, dir, m.n, m.msg.AppendKey(nil))
	i, have := slices.BinarySearchFunc(r.s.msgs, m.sortable, func(a smsg, s string) int { return strings.Compare(a.sortable, s) })
	r.heard = true
	if !have {
		r.s.msgs = slices.Insert(r.s.msgs, i, m)
	}
}

func (r *runner) deliver(m smsg) {
	switch {
	case m.toNode:
		r.node(m.n, core.Recv{From: m.p, Msg: m.msg})
	case m.msg.Kind == core.Ack && m.msg.Pos == r.s.prims[m.p].core.Adopted() && m.msg.Ballot == r.s.prims[m.p].core.Ballot():
		r.prim(m.p, 0, core.Joined{Node: m.msg.Node, Pos: m.msg.Pos}) // of a copy
	default:
		r.prim(m.p, 0, core.Recv{Msg: m.msg})
	}
}

func (r *runner) node(i int, ev core.Event) {
	n := &r.s.nodes[i]
	n.core = n.core.Clone()
	for _, e := range n.core.Step(0, ev) {
		switch e := e.(type) {
		case core.Start:
			n.job = e.Job
			r.applies(i, e.Job)
		case core.Send:
			r.told(n, e.Msg)
			r.post(smsg{p: e.To, n: i, msg: e.Msg})
		}
	}
}

func (r *runner) applies(i int, j *core.Job) {
	if j.Txg == nil || j.Whole {
		return
	}
	if at := r.s.nodes[i].core.State().Pos; at != j.Txg.Prev {
		r.fail("I3: n%d at %v applies %v, which follows %v", i, at, j.Txg.Pos, j.Txg.Prev)
	}
}

// prune drops messages that will never do anything: answers to a primary that
// is over, has another ballot by now or has decided.
func (r *runner) prune() {
	r.s.msgs = slices.DeleteFunc(r.s.msgs, func(m smsg) bool {
		if m.toNode {
			return !r.x.scope.Plain && r.s.unheeded(&m)
		}
		p := &r.s.prims[m.p]
		decided := p.core.Phase() >= core.Barrier
		return p.over || m.msg.Ballot != p.core.Ballot() || decided && (m.msg.Kind == core.Promised || m.msg.Kind == core.Refused)
	})
}

// told checks an answer against the disk: I4 and I5.
func (r *runner) told(n *snode, m *core.Message) {
	switch m.Kind {
	case core.Promised:
		if n.disk.Promised.Epoch < m.Ballot.Epoch || n.disk.Pos != m.Answer.Pos {
			r.fail("I5: promise of %v at %v, durable are %v at %v", m.Ballot, m.Answer.Pos, n.disk.Promised, n.disk.Pos)
		}
		n.promise = max(n.promise, m.Ballot.Epoch)
	case core.Ack:
		if !r.x.check.ancestor(m.Pos, n.disk.Pos) {
			r.fail("I5: acknowledged %v, durable is %v", m.Pos, n.disk.Pos)
		}
	}
}

func (r *runner) finish(i int) {
	n := &r.s.nodes[i]
	if n.job.Ballot.Epoch < n.promise {
		r.fail("I4: n%d makes %v durable after it promised %d", i, n.job.Ballot, n.promise)
	}
	n.disk = n.job.After(n.disk)
	r.heard = true
	n.job = nil
	r.node(i, core.Done{Result: core.OK})
}

func (r *runner) crash(i int) {
	r.s.crashes++
	r.heard = true
	n := &r.s.nodes[i]
	n.job = nil
	n.core = core.NewNode(0, n.core.ID, n.disk, core.NodeOptions{Omit: r.x.scope.Omit})
}

func (r *runner) propose(i int) {
	p := &r.s.prims[i]
	p.proposals++
	r.prim(i, 0, core.Propose{Batch: i, Manifest: [32]byte{byte(i + 1), byte(p.proposals)}, Size: 1})
}

func (r *runner) prim(i int, now time.Duration, ev core.Event) {
	p := &r.s.prims[i]
	if p.over {
		return
	}
	p.core = p.core.Clone()
	attempt := p.core.Attempt()
	if _, start := ev.(core.Campaign); start {
		attempt++
	}
	phase, over := p.core.Phase(), p.over
	effects := p.core.Step(now, ev)
	r.x.names[0].cands[p.core.Ballot().Cand] = cand{i, byte(p.core.Attempt())}
	if p.core.Attempt() != attempt { // it started over
		p.over = true
	}
	var ask []*core.Message
	for _, e := range effects {
		switch e := e.(type) {
		case core.Send:
			if p.over {
				continue
			}
			if e.Msg.Kind == core.PreVote {
				ask = append(ask, e.Msg)
				continue
			}
			if e.Msg.Kind == core.Apply {
				r.sent(e.Msg.Txg)
			}
			r.post(smsg{p: i, n: int(e.Msg.Node[0]) - 1, toNode: true, msg: e.Msg})
		case core.Committed:
			r.committed(e.Txg.Pos)
		case core.Serve:
			r.committed(e.Pos)
		case core.Behind:
			r.copyTo(i, e)
		case core.Refuse:
			r.fail("p%d refuses: %v", i, e.Err)
		}
	}
	r.preVote(i, ask)
	p = &r.s.prims[i]
	r.heard = r.heard || p.over != over || p.core.Phase() != phase
}

// preVote has the question answered at once: it changes nothing on a node,
// so that its delays lead to no other states.
func (r *runner) preVote(i int, ask []*core.Message) {
	for _, m := range ask {
		for _, e := range r.s.nodes[m.Node[0]-1].core.Step(0, core.Recv{From: i, Msg: m}) {
			if r.s.prims[i].core.Phase() == core.PreVoting {
				r.prim(i, 0, core.Recv{Msg: e.(core.Send).Msg})
			}
		}
	}
}

// sent: one T has one batch, also between primaries.
func (r *runner) sent(t *core.Txg) {
	for _, pos := range r.s.sent {
		if pos.T == t.Pos.T && pos != t.Pos {
			r.fail("I3/I7: %v was also sent as %v", pos, t.Pos)
		}
	}
	if !slices.Contains(r.s.sent, t.Pos) {
		r.s.sent = append(r.s.sent, t.Pos)
		slices.SortFunc(r.s.sent, func(a, b core.Position) int { return int(int64(a.T) - int64(b.T)) })
	}
	c := &r.x.check
	if _, ok := c.prev[t.Pos]; !ok {
		c.prev[t.Pos], c.charter[t.Pos] = t.Prev, t.Charter
	}
}

// copyTo sends the adopted state to a node that does not have it.
func (r *runner) copyTo(i int, b core.Behind) {
	p := r.s.prims[i].core
	if p.Phase() != core.Barrier || !p.Charter().Config.IsMaster(b.Node) { // others wait until it is committed
		return
	}
	r.post(smsg{p: i, n: int(b.Node[0]) - 1, toNode: true, msg: &core.Message{Kind: core.Apply, Node: b.Node,
		Ballot: p.Ballot(), Whole: true, Txg: &core.Txg{Pos: p.Adopted(), Charter: p.AdoptedCharter()}}})
}

// committed: I1.
func (r *runner) committed(pos core.Position) {
	c := &r.x.check
	switch {
	case pos == r.s.top:
	case c.ancestor(r.s.top, pos):
		r.s.top = pos
		r.heard = true
		r.x.found.Committed++
	case !c.ancestor(pos, r.s.top):
		r.fail("I1: %v and %v are both committed", r.s.top, pos)
	}
}

// holds: I2, I22, and that no told promise sank.
func (r *runner) holds() {
	n := 0
	for i := range r.s.nodes {
		d := &r.s.nodes[i]
		switch soft := i >= r.x.scope.Masters; {
		case soft && !r.x.check.ancestor(d.disk.Pos, r.s.top):
			r.fail("I22: n%d, a soft master, is at %v, committed is %v", i, d.disk.Pos, r.s.top)
		case !soft && r.x.check.ancestor(r.s.top, d.disk.Pos):
			n++
		}
		if d.disk.Promised.Epoch < d.promise {
			r.fail("I4: the promise of n%d sank from %d to %v", i, d.promise, d.disk.Promised)
		}
	}
	if n < core.Quorum(r.x.scope.Masters) {
		r.fail("I2: committed %v is on %d of %d disks", r.s.top, n, r.x.scope.Masters)
	}
}
