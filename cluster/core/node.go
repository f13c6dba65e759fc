package core

import (
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	// MaxEpochJump bounds what a node promises: a wild number would use up the
	// epochs.
	MaxEpochJump = 1 << 16
	// LastEpoch is far below the highest that a tid has room for, and further
	// than elections ever get. Nothing begins at or above it.
	LastEpoch = 1<<31 - 1<<20
)

// NodeOptions are fixed for the life of a Node.
type NodeOptions struct {
	// Lease is the longest read lease granted; 0 for clusters without leases.
	Lease time.Duration
	// Quiet is how long after a primary's last message a pre-vote is refused.
	Quiet time.Duration
	// Omit leaves rules out, in simulations.
	Omit Rule
}

// Durable is the state of a node that survives.
type Durable struct {
	Promised    Ballot
	Pos         Position
	Charter     *Charter
	Incarnation ondisk.UUID
	Flags       Flags
	Acked       uint64 // of the txg at Pos
}

// Answer is what a node in that state says about itself.
func (d *Durable) Answer(id ondisk.UUID) Answer {
	return Answer{id, d.Pos, d.Charter, d.Promised.Epoch, d.Incarnation, d.Flags, d.Acked}
}

// A Job is I/O of a node: to make a promise, or a txg, durable. All or
// nothing; on success the node's durable state is what After says.
type Job struct {
	Ballot Ballot // to be recorded in the same commit
	Txg    *Txg   // nil: the promise only
	Whole  bool   // the txg stands for a whole state

	from     int
	reported Position // OmitLatePosition only
}

// After is the state that a finished job leaves.
func (j *Job) After(d Durable) Durable {
	d.Promised = j.Ballot
	if j.Txg != nil {
		d.Pos, d.Acked = j.Txg.Pos, j.Txg.Acked
		if j.Txg.Charter != nil {
			d.Charter = j.Txg.Charter
		}
		if j.Whole {
			d.Flags = 0
		}
	}
	return d
}

// Start asks to run a job. At most one is out at a time; Done follows unless
// the node dies.
type Start struct{ Job *Job }

// Result says how a job ended.
type Result uint8

// Results of a job.
const (
	OK     Result = iota
	Full          // no space; the node is as before
	Broken        // the device failed; nobody knows what is durable
)

// Done says that the job that was out has ended.
type Done struct{ Result Result }

// Reset says that the node's state is known anew: after opening, or after a
// resync brought it elsewhere. No job is out.
type Reset struct{ State Durable }

func (Start) effect() {}
func (Done) event()   {}
func (Reset) event()  {}

type request struct {
	from int
	msg  *Message
}

// A Node is one copy. It answers messages and has at most one job out.
type Node struct {
	ID  ondisk.UUID
	opt NodeOptions

	dur  Durable // as of the last finished job
	job  *Job
	want *request // promise that waits for the job
	next *request // txg that waits for the job

	broken     bool          // after Broken, until Reset
	heard      time.Duration // when a primary was last heard
	hasHeard   bool
	holder     Ballot // of the lease
	leaseUntil time.Duration
}

// NewNode returns a node in a state that was read from its device and
// flushed there. A restarted node may have granted a lease before: it
// promises nothing for the length of one.
func NewNode(now time.Duration, id ondisk.UUID, d Durable, o NodeOptions) *Node {
	return &Node{ID: id, opt: o, dur: d, leaseUntil: now + o.Lease}
}

// State is the durable state as of the last finished job.
func (n *Node) State() Durable { return n.dur }

// Busy reports whether a job is out.
func (n *Node) Busy() bool { return n.job != nil }

// Clone returns a copy for a simulator that explores several futures.
func (n *Node) Clone() *Node {
	c := *n
	return &c
}

// Step handles one event.
func (n *Node) Step(now time.Duration, ev Event) []Effect {
	switch ev := ev.(type) {
	case Recv:
		return n.receive(now, ev)
	case Done:
		return n.done(now, ev.Result)
	case Reset:
		n.dur, n.broken = ev.State, false
		n.job, n.want, n.next = nil, nil, nil
	}
	return nil
}

func (n *Node) receive(now time.Duration, ev Recv) []Effect {
	m := ev.Msg
	if n.broken {
		return n.reply(ev.From, &Message{Kind: Failed, Ballot: m.Ballot})
	}
	switch m.Kind {
	case PreVote:
		return n.preVote(now, ev)
	case Promise:
		return n.promise(now, ev)
	case Apply:
		return n.apply(now, ev)
	case Beat:
		return n.beat(now, ev)
	}
	return nil
}

func (n *Node) reply(to int, m *Message) []Effect {
	m.Node = n.ID
	return []Effect{Send{to, m}}
}

func (n *Node) answer() *Answer {
	a := n.dur.Answer(n.ID)
	return &a
}

// leased is how long the lease of another than b still runs.
func (n *Node) leased(now time.Duration, b Ballot) time.Duration {
	if n.opt.Omit&OmitLease != 0 || n.opt.Lease == 0 || n.holder == b {
		return 0
	}
	return max(0, n.leaseUntil-now)
}

func (n *Node) preVote(now time.Duration, ev Recv) []Effect {
	quiet := !n.hasHeard || now-n.heard >= n.opt.Quiet
	free := now >= n.leaseUntil || n.opt.Omit&OmitLease != 0
	return n.reply(ev.From, &Message{Kind: PreVoted, Ballot: ev.Msg.Ballot, Answer: n.answer(),
		Heard: n.dur.Promised.Epoch, Yes: quiet && free})
}

// highest is the highest ballot that is promised or on its way to be.
func (n *Node) highest() Ballot {
	b := n.dur.Promised
	if n.job != nil && n.job.Ballot.Epoch > b.Epoch {
		b = n.job.Ballot
	}
	if n.want != nil && n.want.msg.Ballot.Epoch > b.Epoch {
		b = n.want.msg.Ballot
	}
	return b
}

func (n *Node) promise(now time.Duration, ev Recv) []Effect {
	b, have := ev.Msg.Ballot, n.highest()
	same := b == have || n.opt.Omit&OmitCandidate != 0 && b.Epoch == have.Epoch
	wait := n.leased(now, b)
	if b.Epoch < have.Epoch || b.Epoch == have.Epoch && !same || wait > 0 ||
		b.Epoch-have.Epoch > MaxEpochJump && have.Epoch != 0 {
		return n.reply(ev.From, &Message{Kind: Refused, Ballot: b, Heard: have.Epoch, Wait: wait})
	}
	if n.next != nil && n.next.msg.Ballot != b {
		n.next = nil // older work stops
	}
	n.want = &request{ev.From, ev.Msg}
	if n.opt.Omit&OmitDurable != 0 {
		n.dur.Promised = b
		return append(n.promised(ev.From, b, n.dur.Pos), n.run()...)
	}
	return n.run()
}

func (n *Node) promised(to int, b Ballot, at Position) []Effect {
	a := n.answer()
	a.Pos = at
	return n.reply(to, &Message{Kind: Promised, Ballot: b, Answer: a})
}

func (n *Node) apply(now time.Duration, ev Recv) []Effect {
	m, have := ev.Msg, n.dur.Promised
	b, x := m.Ballot, m.Txg
	stale := b.Epoch < have.Epoch || b.Epoch == have.Epoch && b.Cand != have.Cand
	if n.opt.Omit&OmitFence != 0 {
		stale = false
	}
	if stale {
		return n.reply(ev.From, &Message{Kind: Stale, Ballot: b, Heard: have.Epoch})
	}
	if w := n.want; w != nil && w.msg.Ballot.Epoch > b.Epoch {
		return n.reply(ev.From, &Message{Kind: Stale, Ballot: b, Heard: w.msg.Ballot.Epoch})
	}
	n.heard, n.hasHeard = now, true
	pos := n.dur.Pos
	if pos == x.Pos || b == have && pos.T > x.Pos.T && pos.T.Epoch() == b.Epoch {
		return n.reply(ev.From, &Message{Kind: Ack, Ballot: b, Pos: x.Pos})
	}
	if n.job != nil {
		if n.job.Txg == nil || n.job.Txg.Pos != x.Pos || n.job.Ballot != b {
			n.next = &request{ev.From, m}
		}
		return nil
	}
	if x.Prev != pos && !m.Whole && n.opt.Omit&OmitPrevious == 0 ||
		m.Whole && x.Pos.T < pos.T && pos.T.Epoch() == b.Epoch {
		return n.reply(ev.From, &Message{Kind: Need, Ballot: b, Pos: x.Prev, Answer: n.answer()})
	}
	raise := b
	if n.opt.Omit&OmitRaise != 0 {
		raise = have
	}
	n.job = &Job{Ballot: raise, Txg: x, Whole: m.Whole, from: ev.From}
	return []Effect{Start{n.job}}
}

func (n *Node) beat(now time.Duration, ev Recv) []Effect {
	m := ev.Msg
	if m.Ballot != n.dur.Promised {
		if m.Ballot.Epoch <= n.dur.Promised.Epoch {
			return n.reply(ev.From, &Message{Kind: Stale, Ballot: m.Ballot, Heard: n.dur.Promised.Epoch})
		}
		return nil // it learns of the epoch by a promise or a txg
	}
	if n.want != nil && n.want.msg.Ballot != m.Ballot || n.job != nil && n.job.Ballot != m.Ballot {
		return nil // about to be promised to another: no more leases
	}
	n.heard, n.hasHeard = now, true
	lease := min(m.Lease, n.opt.Lease)
	if lease > 0 {
		n.holder, n.leaseUntil = m.Ballot, max(n.leaseUntil, now+lease)
	}
	return n.reply(ev.From, &Message{Kind: BeatAck, Ballot: m.Ballot, Sent: m.Sent, Lease: lease})
}

// run starts what waits, a promise first: it must not queue behind txgs.
func (n *Node) run() []Effect {
	w := n.want
	if w == nil {
		return nil
	}
	if n.job != nil {
		if n.opt.Omit&OmitLatePosition != 0 {
			n.want = nil
			n.dur.Promised = w.msg.Ballot
			return n.promised(w.from, w.msg.Ballot, n.dur.Pos)
		}
		return nil
	}
	n.want = nil
	if w.msg.Ballot == n.dur.Promised && n.opt.Omit&OmitDurable == 0 {
		return n.promised(w.from, w.msg.Ballot, n.dur.Pos)
	}
	n.job = &Job{Ballot: w.msg.Ballot, from: w.from, reported: n.dur.Pos}
	return []Effect{Start{n.job}}
}

func (n *Node) done(now time.Duration, r Result) []Effect {
	j := n.job
	n.job = nil
	var out []Effect
	switch {
	case r == Broken:
		n.broken = true
		n.want, n.next = nil, nil
		return n.reply(j.from, &Message{Kind: Failed, Ballot: j.Ballot})
	case r == Full:
		out = n.reply(j.from, &Message{Kind: NoSpace, Ballot: j.Ballot})
	case j.Txg != nil:
		n.dur = j.After(n.dur)
		out = n.reply(j.from, &Message{Kind: Ack, Ballot: j.Ballot, Pos: j.Txg.Pos})
	default:
		n.dur = j.After(n.dur)
		if n.opt.Omit&OmitDurable == 0 {
			out = n.promised(j.from, j.Ballot, n.dur.Pos)
		}
	}
	out = append(out, n.run()...)
	if x := n.next; x != nil && n.job == nil {
		n.next = nil
		out = append(out, n.apply(now, Recv{x.from, x.msg})...)
	}
	return out
}
