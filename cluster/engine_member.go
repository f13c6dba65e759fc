package cluster

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/metered"
)

// A member is one that was given to the mount, or added later. The loop owns
// it, but for the numbers that readers leave.
type member struct {
	index int
	spec  MemberSpec
	given MemberSpec             // spec before its requests were counted
	name  atomic.Pointer[string] // of spec, for others than the loop
	fsid  ondisk.UUID            // zero until it was opened once, or known by its header
	maybe []ondisk.UUID          // one of these is it, by the header of a volume that cannot be used
	conn  *conn                  // nil while it is not open
	first core.Durable
	last  Position // the last that was known
	at    time.Time
	flags core.Flags

	state  NodeState
	told   NodeState // the last that turns know
	err    string
	remedy string
	since  time.Time
	lags   time.Time // since when it lacks the committed txg; zero = it does not

	opening    bool
	merged     bool            // its branch is over: it is closed and opened in one go
	closing    bool            // an old conn is still being closed
	closed     <-chan struct{} // closed when that has ended; nil: there was none
	attempt    int             // counts reopenings
	backoff    time.Duration
	waiters    []chan<- error // for the end of a reopening
	growing    bool           // somebody has it grow
	before     MemberSpec     // given, before a device was to be added
	hold       *hold          // a resync owns it; nil: none does
	unreadable bool           // MakeRoom met blocks that cannot be read
	urgent     bool           // needed for the barrier
	discarded  bool           // the operator gave up its foreign change
	expelled   bool           // it was removed, or replaced: only its line in the status is left
	promoting  bool           // its change of members is under way

	latency  atomic.Int64 // smoothed, in ns
	silent   atomic.Int32 // reads in a row that failed for other reasons than the data
	bad      atomic.Uint64
	repaired atomic.Uint64
	meter    metered.Meter
	level    atomic.Pointer[usage] // when it last had all that is committed
}

func newMember(index int, spec MemberSpec, s NodeState) *member {
	m := &member{index: index, state: s, since: time.Now()}
	m.spec = m.metered(spec)
	return m
}

func (m *member) enter(s NodeState, why, remedy string) {
	if m.state != s {
		m.since = time.Now()
	}
	m.state, m.err, m.remedy = s, why, remedy
}

// called is its name now: growing by a device changes that.
func (m *member) called() string { return *m.name.Load() }

// take makes c the member's conn.
func (m *member) take(c *conn, d core.Durable) {
	m.conn, m.first, m.last, m.fsid = c, d, d.Pos, c.info.Fsid
	m.enter(NodeBehind, "", "")
}

// sample adds one measured read to the smoothed latency.
func (m *member) sample(d time.Duration) {
	old := m.latency.Load()
	if old == 0 {
		m.latency.Store(int64(d))
		return
	}
	m.latency.Store(old + (int64(d)-old)/8)
}

// A memberView is what the loop publishes of a member.
type memberView struct {
	m        *member
	conn     *conn
	report   NodeReport
	readable bool // may serve reads if its view has the committed txg
	master   bool // attached and counted
	bound    bool // a master of the configuration that follows or is brought back: it is to hold what is committed
}

// refresh publishes what changed since the last time.
func (e *engine) refresh() {
	if e.o.ReadOnly || e.primary == nil {
		e.mu.Lock()
		p := e.pub
		e.mu.Unlock()
		e.publish(p)
		return
	}
	p := published{
		committed: e.primary.Committed(),
		base:      e.base,
		quorum:    e.primary.Quorum() && !e.past,
		serving:   e.primary.Phase() == core.Serving && !e.past,
		past:      e.past,
		changing:  e.primary.Changing(),
		charter:   e.primary.Charter(),
	}
	if p.serving {
		p.next = e.primary.NextT()
	}
	for _, m := range e.members {
		e.settle(m, p.committed)
	}
	e.publish(p)
}

// settle lets a member be in sync when it contains the committed txg.
func (e *engine) settle(m *member, committed Position) {
	if m.conn == nil || m.hold != nil || m.flags != 0 {
		return
	}
	switch pos := m.conn.position(); {
	case m.state == NodeBehind && pos.T >= committed.T && e.primary.Phase() == core.Serving:
		m.enter(NodeInSync, "", "")
		m.urgent, m.unreadable = false, false
		e.inSync(m)
	case m.state != NodeInSync || pos.T >= committed.T:
		m.lags = time.Time{}
		if m.state == NodeInSync && e.primary.Phase() == core.Serving {
			e.inSync(m) // if it could not take its place at first
		}
		if m.state == NodeInSync && m.conn.numbers() > 0 {
			m.backoff = 0 // it can be written: that it could be opened says little
		}
	case m.lags.IsZero():
		m.lags = time.Now()
	case time.Since(m.lags) > lagPatience:
		m.enter(NodeBehind, "it is slower than the others", "")
	}
}

// lagPatience is how long a member may lack the committed txg, as the slowest
// does for a moment with each, without being reported as behind.
const lagPatience = 2 * time.Second

// noteReadable wakes who keeps views when a late member has caught up. It is
// looked at now and then only: with each txg somebody is late.
func (e *engine) noteReadable() {
	var mask uint64
	for _, v := range e.readable() {
		mask |= nodeBit(v.m.index)
	}
	if mask != e.handed.Load() {
		e.notify = true
	}
}

// publish shows p and the members, and wakes those who wait for a change.
func (e *engine) publish(p published) {
	p.members = make([]memberView, 0, len(e.members))
	var cfg *Config
	if p.charter != nil {
		cfg = &p.charter.Config
	}
	for _, m := range e.members {
		e.identify(m, cfg)
		v := memberView{m: m, conn: m.conn, report: e.report(m, cfg)}
		good := m.state == NodeInSync || m.state == NodeBehind || m.state == NodeReadOnly
		v.readable = m.conn != nil && m.flags == 0 && m.hold == nil && good
		v.master = v.readable && cfg != nil && cfg.IsMaster(m.fsid)
		back := m.state == NodeBehind || m.state == NodeResync || m.state == NodeFull
		v.bound = m.conn != nil && cfg != nil && cfg.IsMaster(m.fsid) && (v.master || back)
		p.members = append(p.members, v)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	same := !e.turn() && e.pub.same(&p) && !e.notify
	e.pub, e.notify = p, false
	if same {
		return
	}
	e.announce()
}

// identify finds out which member of the configuration one is that could not be
// opened, by what the header of its volume says of the PFSs on it.
func (e *engine) identify(m *member, cfg *Config) {
	if !m.fsid.IsZero() || cfg == nil {
		return
	}
	for _, id := range m.maybe {
		if _, ok := cfg.Member(id); ok && e.byFsid(id) == nil {
			m.fsid = id
			return
		}
	}
}

// lost notes that a member could not be opened.
func (m *member) lost(err error) {
	var u *chain.Unused
	if errors.As(err, &u) {
		m.maybe = u.Fsids
	}
	m.enter(NodeFailed, err.Error(), m.remedyOf(err))
}

// same reports whether nobody has to be woken: positions move with each
// commit, and whoever waits for one has asked for it.
func (p *published) same(o *published) bool {
	if p.quorum != o.quorum || p.serving != o.serving || p.past != o.past || p.changing != o.changing || p.charter != o.charter || len(p.members) != len(o.members) {
		return false
	}
	for i := range p.members {
		a, b := &p.members[i], &o.members[i]
		if a.conn != b.conn || a.report.State != b.report.State || a.report.Err != b.report.Err ||
			a.readable != b.readable || a.report.Role != b.report.Role || a.report.Replaces != b.report.Replaces {
			return false
		}
	}
	return true
}

// decided is what a member is: a change is reported when it is committed.
func (e *engine) decided(cfg *Config, id ondisk.UUID) (Member, bool) {
	switch {
	case cfg == nil:
		return Member{}, false
	case e.primary == nil:
		return cfg.Member(id)
	}
	return e.primary.Decided(id)
}

func (e *engine) report(m *member, cfg *Config) NodeReport {
	r := NodeReport{
		Name: m.spec.Name, Fsid: m.fsid, State: m.state, Opening: m.opening, Err: m.err, Remedy: m.remedy, Since: m.since,
		Bad: m.bad.Load(), Repaired: m.repaired.Load(), Latency: time.Duration(m.latency.Load()),
	}
	r.Unreadable = m.unreadable && m.conn != nil
	if m.merged && m.conn == nil {
		r.State, r.Err, r.Remedy = NodeBranch, "its merge is ending", ""
	}
	if m.conn != nil {
		m.last, m.at = m.conn.position(), m.conn.since()
		r.Applied = m.conn.numbers()
		r.Role = m.conn.info.Type
	}
	r.Position, r.At = m.last, m.at
	if c, ok := e.decided(cfg, m.fsid); ok {
		r.Role, r.Replaces = c.Role, c.Replaces
	}
	return r
}
