package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A nodeView is a node that may be read. Who got it releases View.
type nodeView struct {
	Node int // index of the member, for reportRead
	Name string
	T    ondisk.Tid // the node's position; a PFS that is not clustered has no barriers
	View *chain.View
}

// goneAfter is how many reads in a row must fail for other reasons than the
// data until a member counts as gone.
const goneAfter = 8

// committed is the last committed position.
func (e *engine) committed() Position {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pub.committed
}

// stale reports whether others changed the members since this mount.
func (e *engine) stale() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pub.past
}

// hasQuorum reports whether enough masters are attached to commit.
func (e *engine) hasQuorum() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pub.quorum
}

// changing reports whether a change of members is under way.
func (e *engine) changing() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pub.changing
}

// changed returns a channel that is closed when a node, the quorum or the
// set of readable nodes changes.
func (e *engine) changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changeCh
}

// announce tells those who wait for changed. The caller holds e.mu.
func (e *engine) announce() {
	close(e.changeCh)
	e.changeCh = make(chan struct{})
}

// readable returns the members that may serve reads now, the focus first.
func (e *engine) readable() []memberView {
	e.mu.Lock()
	p := e.pub
	e.mu.Unlock()
	if !p.serving {
		return nil
	}
	var ms []memberView
	for _, v := range p.members {
		if pos := v.shownAt(); v.readable && (pos == p.base || pos.T > p.base.T) {
			ms = append(ms, v)
		}
	}
	slices.SortStableFunc(ms, func(a, b memberView) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.m.latency.Load(), b.m.latency.Load()))
	})
	return ms
}

// coming reports whether a member in sync may soon be read that is not in mask: it
// lacks the committed txg, which is on its way, or had it a moment ago.
func (e *engine) coming(mask uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.pub.members, func(v memberView) bool {
		return v.readable && v.conn != nil && mask&nodeBit(v.m.index) == 0
	})
}

// nodeBit is a node's in a mask.
func nodeBit(index int) uint64 { return 1 << (index % 64) }

func (v *memberView) shownAt() Position {
	if v.conn == nil {
		return Position{}
	}
	return v.conn.shownAt()
}

// rank orders reading by role, as Resolve does: soft nodes are there to be
// read, if they have what is committed; then masters before slaves.
func (v *memberView) rank() int {
	switch v.report.Role {
	case ondisk.PFSSoftMaster:
		return 0
	case ondisk.PFSSoftSlave:
		return 1
	case ondisk.PFSMaster:
		return 2
	}
	return 3
}

// views returns the nodes that may be read under the overlays, best first:
// they contain the last committed txg that was not for the log.
func (e *engine) views() []nodeView {
	e.mu.Lock()
	base := e.pub.base
	e.mu.Unlock()
	var out []nodeView
	var mask uint64
	defer func() { e.handed.Store(mask) }()
	for _, v := range e.readable() {
		view, pos, _, ok := v.conn.shown()
		switch {
		case !ok:
		case pos.T < base.T:
			view.Release()
		default:
			mask |= nodeBit(v.m.index)
			out = append(out, nodeView{v.m.index, v.report.Name, pos.T, view})
		}
	}
	return out
}

// reportRead takes the time of a read, or its error. Damage is queued for
// repair; a member that answers nothing any more is given up.
func (e *engine) reportRead(node int, d time.Duration, err error, ref *chain.NodeError) {
	e.readOf(node, "", d, err, ref)
}

// readOf is reportRead of a read in a snapshot, if that is named.
func (e *engine) readOf(node int, snapshot string, d time.Duration, err error, ref *chain.NodeError) {
	e.mu.Lock()
	var m *member
	for _, v := range e.pub.members {
		if v.m.index == node {
			m = v.m
		}
	}
	e.mu.Unlock()
	switch {
	case m == nil || errors.Is(err, context.Canceled) || errors.Is(err, chain.ErrClosed):
	case err == nil:
		m.silent.Store(0)
		m.sample(d)
	default:
		m.bad.Add(1)
		next := "another node is asked"
		if e.solo {
			next = "there is no other copy"
		}
		e.log.Warn("bad read: "+next, "member", m.called(), "err", err)
		spot := errors.Is(err, ondisk.ErrCorrupt)
		if !spot && m.silent.Add(1) >= goneAfter {
			m.silent.Store(0)
			e.post(func() { e.fail(m, err.Error()) })
			return
		}
		if ref == nil || e.o.ReadOnly {
			return
		}
		e.tasks.Go(func() {
			if spot || !e.gone(node) {
				e.damaged(m, snapshot, ref)
			}
		})
	}
}

// gone asks the device of a node that failed a read whether it is there at
// all. If not, the node is given up.
func (e *engine) gone(node int) bool {
	return e.answers(func(v *memberView) bool { return v.m.index == node }) != nil
}

// notThere is gone for a node by its name, with what the device says.
func (e *engine) notThere(name string) error {
	return e.answers(func(v *memberView) bool { return v.report.Name == name })
}

func (e *engine) answers(is func(*memberView) bool) error {
	if e.o.ReadOnly {
		return nil // nobody would bring it back
	}
	for _, v := range e.attached() {
		if !is(&v) {
			continue
		}
		err := v.conn.vol.Probe()
		if err == nil {
			return nil
		}
		e.post(func() {
			if v.m.conn == v.conn {
				e.fail(v.m, err.Error())
			}
		})
		return err
	}
	return errNotOpen
}

var errNotOpen = errors.New("it is not open any more")

// attached returns the members that have an open volume.
func (e *engine) attached() []memberView {
	ms, _ := e.attachedAt()
	return ms
}

// attachedAt is attached, with the txg that is committed then.
func (e *engine) attachedAt() ([]memberView, ondisk.Tid) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ms := make([]memberView, 0, len(e.pub.members))
	for _, v := range e.pub.members {
		if v.conn != nil {
			ms = append(ms, v)
		}
	}
	return ms, e.pub.committed.T
}

// volumes returns the open volumes of the attached members.
func (e *engine) volumes() []nodeVolume {
	var out []nodeVolume
	for _, v := range e.attached() {
		if s := v.report.State; s == NodeTainted || s == NodeForeign || s == NodeBranch {
			continue // what it holds is not to be trusted
		}
		out = append(out, nodeVolume{
			Node: v.m.index, Name: v.report.Name, Label: v.conn.label, Fsid: v.conn.info.Fsid, Vol: v.conn.vol,
			InSync: v.report.State == NodeInSync || v.report.State == NodeReadOnly, Snap: v.conn.snap,
			Since: v.report.Since, Limit: e.deadline,
		})
	}
	return out
}

// nodes reports on all members, and on those of the configuration that were
// not given.
func (e *engine) nodes() []NodeReport {
	e.mu.Lock()
	p := e.pub
	e.mu.Unlock()
	out := make([]NodeReport, 0, len(p.members))
	given := make(map[ondisk.UUID]bool)
	for _, v := range p.members {
		r := v.report
		if v.conn != nil {
			s := v.conn.vol.Space()
			r.Space = NodeSpace{s.Total, s.Free, s.Pending, s.Reserved}
			r.Position, r.At = v.conn.position(), v.conn.since()
			r.Applied = v.conn.numbers()
		}
		r.Bad, r.Repaired = v.m.bad.Load(), v.m.repaired.Load()
		r.Latency = time.Duration(v.m.latency.Load())
		io := v.m.meter.Report()
		r.IO = &io
		given[r.Fsid] = true
		out = append(out, r)
	}
	if best := e.readable(); len(best) > 0 {
		for i := range out {
			out[i].Focus = out[i].Fsid == best[0].m.fsid
		}
	}
	if p.charter == nil {
		return out
	}
	for _, m := range p.charter.Config.Members {
		if !given[m.Fsid] {
			out = append(out, NodeReport{Name: m.Fsid.String(), Fsid: m.Fsid, Role: m.Role, State: NodeMissing,
				Err: "not given to the mount", Remedy: "mount with it, or anvilfs node replace MNT NODE DEVICE", Replaces: m.Replaces})
		}
	}
	return out
}

// each runs f for every attached member at once and joins the errors.
func (e *engine) each(f func(v *chain.Volume) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all error
	for _, v := range e.attached() {
		wg.Go(func() {
			if err := f(v.conn.vol); err != nil && !errors.Is(err, chain.ErrReadOnly) && !errors.Is(err, chain.ErrClosed) {
				mu.Lock()
				all = errors.Join(all, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// drainFrees makes dropped space usable on all attached members.
func (e *engine) drainFrees(ctx context.Context) error {
	return e.each(func(v *chain.Volume) error { return v.DrainFrees(ctx) })
}

// bulkfree looks for unused space on the attached members that have lost at
// least so many bytes.
func (e *engine) bulkfree(ctx context.Context, lost uint64, o chain.BulkfreeOptions) error {
	return e.each(func(v *chain.Volume) error {
		if v.Space().Lost < lost {
			return nil
		}
		_, err := v.Bulkfree(ctx, o)
		return err
	})
}
