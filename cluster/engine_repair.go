package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// maxDamage bounds the queue: what does not fit is found again by the next
// read, or by a scrub.
const maxDamage = 1024

// ErrNotInSync: the member takes no single repairs now. It is being copied, or
// will be: try again when it is in sync.
var ErrNotInSync = errors.New("the member is not in sync")

// A damage is a leaf of a member that could not be read.
type damage struct {
	m *member
	Leaf
}

// A damageQueue holds what waits for repair. The engine's mu guards it.
type damageQueue struct {
	todo    []damage
	known   map[damage]bool
	running bool
}

// damaged queues what a read found.
func (e *engine) damaged(m *member, ref *chain.NodeError) {
	d := damage{m, LeafOf(ref)}
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
		err := e.repair(e.ctx, d)
		if err != nil && e.ctx.Err() == nil {
			e.log.Warn("damage was not repaired", "member", d.m.spec.Name, "inode", d.Inum, "key", d.Key, "err", err)
		}
		if e.o.Damaged != nil && e.ctx.Err() == nil {
			e.o.Damaged(Damage{Node: d.m.spec.Name, Label: e.o.Label, Leaf: d.Leaf}, err)
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
	var c *conn
	var is NodeState
	e.ask(func() {
		is = d.m.state
		if d.m.hold == nil && d.m.state == NodeInSync {
			c = d.m.conn
		}
	})
	if c == nil {
		return fmt.Errorf("%w: it is %s", ErrNotInSync, is)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, unpin, err := e.pinSource(ctx, d.m.spec.Name)
	if err != nil {
		return err
	}
	defer unpin()
	change, ok, err := d.Fetch(chain.Patient(ctx, e.deadline, nil), s.View)
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
		e.log.Info("repaired", "member", d.m.spec.Name, "from", s.Name, "inode", d.Inum, "key", d.Key)
	}
	if errors.Is(err, chain.ErrVolumeFailed) {
		e.post(func() { e.fail(d.m, err.Error()) })
	}
	return err
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

// condemn has a member resynced as a whole.
func (e *engine) condemn(d damage) error {
	err := ErrPoolClosed
	e.ask(func() {
		m := d.m
		err = nil
		switch {
		case m.conn == nil || m.hold != nil || m.state != NodeInSync:
		case e.spare(m) != nil:
			err = e.spare(m)
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
