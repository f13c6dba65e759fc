package core

import (
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// PrimaryOptions are fixed for the life of a Primary.
type PrimaryOptions struct {
	// Seed makes candidates differ between processes: random per start.
	Seed uint64
	// Make builds the batch that stores a charter. It must be a function of
	// its arguments.
	Make func(T ondisk.Tid, c *Charter) (batch any, manifest [32]byte, size int64)
	// Solo is a PFS that is not clustered: its only node is adopted as it is
	// and no barrier is written.
	Solo bool
	// Wait is how long the rest is waited for after a quorum answered.
	Wait time.Duration
	// Retry is after how long a message without an answer is sent again.
	Retry time.Duration
	// Lease is the length of read leases asked for; 0 = none.
	Lease time.Duration
	// Window bounds the bytes of committed txgs kept for replay.
	Window int64
	// Omit leaves rules out, in simulations.
	Omit Rule
}

// Phase is what a primary is doing.
type Phase uint8

// The phases of a primary.
const (
	Idle Phase = iota
	PreVoting
	Promising
	Barrier // adopted; nothing is served yet
	Serving
	Stopped // a conflict: an operator must decide
)

var phaseNames = [...]string{"idle", "pre-vote", "promise", "barrier", "serving", "stopped"}

func (p Phase) String() string { return phaseNames[p] }

// A peer is a node as the primary sees it.
type peer struct {
	id       ondisk.UUID
	attached bool
	flags    Flags
	vote     bool    // pre-vote or promise received in this phase
	answer   *Answer // latest
	pos      Position
	acked    ondisk.Tid // the last it said was durable, in this epoch; 0 = none
	behind   bool       // reported: waits for Joined
	out      *Txg       // sent, not acknowledged
	refused  ondisk.Tid // what it failed at last that wants a snapshot; 0 = none
	sent     time.Duration
	beat     time.Duration // when the beat was sent that was acknowledged last
	hasBeat  bool
}

// A Primary makes the txgs of a PFS. It is one process's; a new one starts
// with Attach for each node it reaches, then Campaign.
type Primary struct {
	opt      PrimaryOptions
	phase    Phase
	attempt  uint64
	ballot   Ballot
	heard    uint32 // highest epoch heard of
	deadline time.Duration
	resend   time.Duration
	nextBeat time.Duration

	peers   []peer // by fsid
	charter *Charter
	inForce *Charter   // counts until the txg in flight is committed; nil = charter
	head    Position   // last txg made
	base    Position   // adopted
	baseOf  *Charter   // of base
	done    Position   // last committed
	proven  ondisk.Tid // up to base, what votes proved to be committed
	flight  *Txg       // not committed yet
	window  []*Txg
	kept    int64 // bytes in window
	quorum  bool
	pending []Member // wanted membership, nil if none
}

// NewPrimary returns one that knows no nodes.
func NewPrimary(o PrimaryOptions) *Primary { return &Primary{opt: o} }

// Clone returns a copy for a simulator that explores several futures.
func (p *Primary) Clone() *Primary {
	c := *p
	c.peers = slices.Clone(p.peers)
	c.window = slices.Clone(p.window)
	return &c
}

// Phase is what it is doing.
func (p *Primary) Phase() Phase { return p.phase }

// Committed is the last committed position; while the barrier is not
// committed it is the adopted one.
func (p *Primary) Committed() Position { return p.done }

// Adopted is the state that this epoch was built on.
func (p *Primary) Adopted() Position { return p.base }

// AdoptedCharter is the charter of that state.
func (p *Primary) AdoptedCharter() *Charter { return p.baseOf }

// Head is the last txg made, committed or not.
func (p *Primary) Head() Position { return p.head }

// Charter is the one of the head; nil before anything was adopted.
func (p *Primary) Charter() *Charter { return p.charter }

// Attempt counts campaigns, those started after a loss included.
func (p *Primary) Attempt() uint64 { return p.attempt }

// Ballot is the epoch it leads or tries to.
func (p *Primary) Ballot() Ballot { return p.ballot }

// Leads is its ballot if that epoch is its own, else zero.
func (p *Primary) Leads() Ballot {
	if p.phase != Barrier && p.phase != Serving {
		return Ballot{}
	}
	return p.ballot
}

// Goals are the states at which that node may join after a resync, the best
// first. For a master the head will do before it is committed, and must do if
// those who would commit it are the ones that wait for a copy. In an election
// what the barrier is built on will do as well: who has it may vote no longer,
// and so gets no barrier.
func (p *Primary) Goals(node ondisk.UUID) []Position {
	votes := p.charter != nil && (p.charter.Config.IsMaster(node) || p.countsAsMaster(node))
	switch {
	case p.phase == Barrier && votes:
		return []Position{p.head, p.base}
	case p.phase == Serving && votes && p.head != p.done:
		return []Position{p.done, p.head}
	case p.phase == Serving:
		return []Position{p.done}
	}
	return nil
}

// Quorum reports whether enough masters are attached to commit.
func (p *Primary) Quorum() bool { return p.quorum }

// Free reports whether a proposal would be taken now.
func (p *Primary) Free() bool {
	return p.phase == Serving && p.flight == nil && p.pending == nil && p.charter.Config.Joint == nil
}

// NextT is the T of the next batch.
func (p *Primary) NextT() ondisk.Tid {
	if p.head.T.Epoch() != p.ballot.Epoch {
		if p.opt.Solo {
			return ondisk.MakeTid(p.ballot.Epoch, 1)
		}
		return ondisk.MakeTid(p.ballot.Epoch, 0)
	}
	return p.head.T + 1
}

// Deadline is when Tick is due; ok is false if nothing waits for time.
func (p *Primary) Deadline() (at time.Duration, ok bool) {
	switch p.phase {
	case Idle, Stopped:
		return 0, false
	case Promising:
		at = p.resend
		if p.deadline > 0 {
			at = min(at, p.deadline)
		}
		return at, true
	}
	if p.phase == Serving && p.opt.Lease > 0 {
		return min(p.resend, p.nextBeat), true
	}
	if p.phase == Serving && !p.anyOut() {
		return 0, false
	}
	return p.resend, true
}

func (p *Primary) anyOut() bool {
	return slices.ContainsFunc(p.peers, func(n peer) bool { return n.out != nil })
}

// MayServe reports whether what is read now may be shown: it is serving, and
// where leases are in use a quorum's are still running. It must be asked
// again once the data is in hand.
func (p *Primary) MayServe(now time.Duration) bool {
	if p.phase != Serving {
		return false
	}
	if p.opt.Lease == 0 {
		return true
	}
	valid := p.opt.Lease - p.opt.Lease/10
	return p.counts(func(n *peer) bool { return n.hasBeat && n.beat+valid > now })
}

// Step handles one event.
func (p *Primary) Step(now time.Duration, ev Event) []Effect {
	var out []Effect
	switch ev := ev.(type) {
	case Attach:
		out = p.attach(now, ev.Answer)
	case Detach:
		out = p.detach(ev.Node)
	case Campaign:
		out = p.campaign(now)
	case Tick:
		out = p.tick(now)
	case Recv:
		out = p.receive(now, ev.Msg)
	case Propose:
		out = p.propose(now, ev)
	case Reconfigure:
		out = p.reconfigure(now, ev.Members)
	case Joined:
		out = p.joined(now, ev)
	}
	return append(out, p.noteQuorum()...)
}

// counts reports whether the attached clean nodes that ok accepts are a
// quorum of every set in force.
func (p *Primary) counts(ok func(*peer) bool) bool {
	has := func(id ondisk.UUID) bool {
		n := p.peer(id)
		return n != nil && n.flags == 0 && ok(n)
	}
	for _, c := range []*Charter{p.charter, p.inForce} {
		if c == nil {
			continue
		}
		cfg := &c.Config
		if p.opt.Omit&OmitJoint != 0 && cfg.Joint != nil {
			cfg = &Config{Members: cfg.Members}
		}
		if !cfg.HasQuorum(has) {
			return false
		}
		if p.opt.Omit&OmitJoint != 0 {
			break
		}
	}
	return p.charter != nil
}

// QuorumOf reports whether those nodes are a quorum of every set that counts now:
// also of the members before a change that is under way.
func (p *Primary) QuorumOf(has func(ondisk.UUID) bool) bool {
	old := p.inForce == nil || p.inForce.Config.HasQuorum(has)
	return old && p.charter != nil && p.charter.Config.HasQuorum(has)
}

// Changing reports whether a change of members is under way.
func (p *Primary) Changing() bool {
	return p.inForce != nil || p.charter != nil && p.charter.Config.Joint != nil
}

// Decided is what id is by what is decided: while a change of members is under
// way, what it was before.
func (p *Primary) Decided(id ondisk.UUID) (Member, bool) {
	for _, c := range []*Charter{p.inForce, p.charter} {
		if c == nil || c.Config.Joint == nil {
			continue
		}
		for _, m := range c.Config.Joint {
			if m.Fsid == id {
				return m, true
			}
		}
	}
	if p.charter == nil {
		return Member{}, false
	}
	return p.charter.Config.Member(id)
}

func (p *Primary) noteQuorum() []Effect {
	q := p.counts(func(n *peer) bool { return n.attached && !n.behind })
	if q == p.quorum || p.phase != Serving && p.phase != Barrier {
		return nil
	}
	p.quorum = q
	return []Effect{QuorumChanged{q}}
}

func (p *Primary) peer(id ondisk.UUID) *peer {
	i, ok := slices.BinarySearchFunc(p.peers, id, func(n peer, id ondisk.UUID) int {
		return slices.Compare(n.id[:], id[:])
	})
	if !ok {
		return nil
	}
	return &p.peers[i]
}

func (p *Primary) addPeer(id ondisk.UUID) *peer {
	i, ok := slices.BinarySearchFunc(p.peers, id, func(n peer, id ondisk.UUID) int {
		return slices.Compare(n.id[:], id[:])
	})
	if !ok {
		p.peers = slices.Insert(p.peers, i, peer{id: id})
	}
	return &p.peers[i]
}

func (p *Primary) send(now time.Duration, n *peer, m *Message) Effect {
	m.Node, m.Ballot = n.id, p.ballot
	n.sent = now
	return Send{Msg: m}
}

// candidate is a number that no other attempt of any process has: a
// mixture of the seed and the attempt.
func (p *Primary) candidate() uint64 {
	x := p.opt.Seed + p.attempt*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
