package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// maxDamage bounds the queue: what does not fit is found again by the next
// read, or by a scrub.
const maxDamage = 1024

// repairLimit is how long one repair may take: others wait for it.
const repairLimit = time.Minute

// ErrNotInSync: the member takes no single repairs now. It is being copied, or
// will be: try again when it is in sync.
var ErrNotInSync = errors.New("the member is not in sync")

// errCondemned: what was bad is still there until the copy is in place.
var errCondemned = fmt.Errorf("%w: it is copied anew", ErrNotInSync)

// A damage is a leaf of a member that could not be read.
type damage struct {
	m        *member
	snapshot string // it is in; "" = in the PFS itself
	Leaf
}

// A damageQueue holds what waits for repair. The engine's mu guards it.
type damageQueue struct {
	todo    []damage
	known   map[damage]bool
	running bool
}

// damaged queues what a read found, in a snapshot if that is named.
func (e *engine) damaged(m *member, snapshot string, ref *chain.NodeError) {
	d := damage{m, snapshot, LeafOf(ref)}
	e.mu.Lock()
	defer e.mu.Unlock()
	q := &e.bad
	if q.known == nil {
		q.known = make(map[damage]bool)
	}
	if q.known[d] || len(q.todo) >= maxDamage || e.pub.closed {
		return
	}
	q.known[d] = true
	q.todo = append(q.todo, d)
	if !q.running {
		q.running = true
		e.tasks.Go(e.repairAll)
	}
}

// repairAll works the queue off, one at a time: repair is not to disturb.
func (e *engine) repairAll() {
	for {
		e.mu.Lock()
		q := &e.bad
		if len(q.todo) == 0 || e.ctx.Err() != nil {
			q.running = false
			e.mu.Unlock()
			return
		}
		d := q.todo[0]
		q.todo = q.todo[1:]
		e.mu.Unlock()
		is := Damage{Node: d.m.called(), Label: cmp.Or(d.snapshot, e.o.Label), Leaf: d.Leaf}
		var err error
		switch {
		case e.solo: // cannot be, but is written down
			err = e.repairNow(e.ctx, is)
		case d.snapshot != "":
			err = e.mendQueued(d.m, is)
		default:
			err = e.repair(e.ctx, d)
		}
		if err != nil && e.ctx.Err() == nil {
			e.log.Warn("damage was not repaired", "member", is.Node, "pfs", is.Label, "inode", d.Inum, "key", d.Key, "err", err)
		}
		if e.o.Damaged != nil && e.ctx.Err() == nil {
			e.o.Damaged(is, err)
		}
		e.mu.Lock()
		delete(q.known, d)
		e.mu.Unlock()
	}
}

// repair rewrites one leaf from a copy that another node verified. Damage
// above the leaves loses whole ranges: the member is resynced then, if a
// quorum stands without it.
func (e *engine) repair(ctx context.Context, d damage) error {
	if !d.Single() {
		return e.condemn(d)
	}
	c, err := e.repairable(d.m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, repairLimit)
	defer cancel()
	change, from, ok, err := e.goodCopy(ctx, d)
	if err != nil || !ok {
		return err // gone meanwhile
	}
	written, known, err := c.mend(ctx, d.Leaf, change)
	if !known {
		written, err = c.rewrite(ctx, d.Leaf, change)
	}
	if err == nil && written {
		d.m.repaired.Add(1)
		e.mu.Lock()
		e.announce()
		e.mu.Unlock()
		e.log.Info("repaired", "member", d.m.called(), "from", from, "inode", d.Inum, "key", d.Key)
	}
	if errors.Is(err, chain.ErrVolumeFailed) {
		e.post(func() { e.fail(d.m, err.Error()) })
	}
	return err
}

// repairable returns the open member if it takes single repairs now.
func (e *engine) repairable(m *member) (c *conn, err error) {
	var is NodeState
	e.ask(func() {
		is = m.state
		if m.hold == nil && m.state == NodeInSync {
			c = m.conn
		}
	})
	if c == nil {
		return nil, fmt.Errorf("%w: it is %s", ErrNotInSync, is)
	}
	return c, nil
}

// goodCopy fetches a leaf from whichever other node has it right: the quickest may
// be damaged there, too. ok is false if it is not there any more.
func (e *engine) goodCopy(ctx context.Context, d damage) (c chain.Change, from string, ok bool, err error) {
	not := []string{d.m.called()}
	for {
		s, unpin, none := e.pinOther(ctx, not)
		if none != nil {
			return c, "", false, errors.Join(err, none)
		}
		change, there, bad := d.Fetch(chain.Patient(ctx, e.deadline, nil), s.View)
		unpin()
		if bad == nil {
			return change, s.Name, there, nil
		}
		not = append(not, s.Name)
		err = fmt.Errorf("%w: what is on %s is not right, either: %w", ErrNoGoodCopy, strings.Join(not[1:], " and "), bad)
		if ctx.Err() != nil || !e.others(not) {
			return c, "", false, err
		}
	}
}

// others reports whether there is a node in sync beside those.
func (e *engine) others(not []string) bool {
	return slices.ContainsFunc(e.attached(), func(v memberView) bool {
		return v.report.State == NodeInSync && !slices.Contains(not, v.m.called())
	})
}

// mendQueued is mendSnapshot, for no longer than the queue may wait for it.
func (e *engine) mendQueued(m *member, d Damage) error {
	ctx, cancel := context.WithTimeout(e.ctx, repairLimit)
	defer cancel()
	return e.mendSnapshot(chain.Patient(ctx, e.deadline, nil), m, d)
}

// mend writes a data block in place that the device gives back wrong: all that
// share it, in snapshots and in files, are healed with it. It is left to
// rewrite, which takes another place, where the block is another version or the
// device gives back nothing (known is false): such a place may refuse writes.
func (c *conn) mend(ctx context.Context, l Leaf, change chain.Change) (written, known bool, err error) {
	if l.Kind != ondisk.TypeData {
		return false, false, nil
	}
	v, err := c.vol.View(ctx, c.label)
	if err != nil {
		return false, true, err
	}
	defer v.Release() // until then the block is not reused
	ref, found, err := dataRef(ctx, v, l.Inum, l.Key)
	if err != nil || !found || ref.ModifyTid != change.ModifyTid ||
		ref.Check != change.Block.Code || ref.Size() != len(change.Block.Bytes) {
		return false, false, nil
	}
	var wrong *ondisk.CheckError
	if _, err := v.ReadBlock(ctx, &ref); !errors.As(err, &wrong) {
		return false, err == nil, nil // read right: there is nothing to mend
	}
	written, err = c.vol.Mend(ctx, &ref, change.Block.Bytes)
	return written, err == nil || errors.Is(err, chain.ErrVolumeFailed), err
}

// rewrite puts the leaf in place of the damaged one and shows readers.
func (c *conn) rewrite(ctx context.Context, l Leaf, change chain.Change) (written bool, err error) {
	if written, err = c.Rewrite(ctx, l, change); !written || err != nil {
		return written, err
	}
	return true, c.showAgain(ctx)
}

// condemn has a member resynced as a whole. It says that this was done, or is
// under way, with ErrNotInSync.
func (e *engine) condemn(d damage) error {
	err := ErrPoolClosed
	e.ask(func() {
		m := d.m
		err = errCondemned
		switch {
		case m.conn == nil || m.hold != nil || m.state != NodeInSync:
		case e.spare(m) != nil:
			err = fmt.Errorf("a table is damaged, and it cannot be copied anew now: %w", e.spare(m))
		default:
			m.conn.setReason(fmt.Sprintf("a table of inode %d is damaged", d.Inum))
			m.flags = core.Tainted
			st := m.conn.state()
			st.Flags = core.Tainted
			e.step(core.Detach{Node: m.fsid})
			e.attach(m, st)
		}
	})
	return err
}
