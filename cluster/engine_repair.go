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

// A damage is a leaf of a member that could not be read.
type damage struct {
	m    *member
	inum uint64
	key  uint64
	kind ondisk.BlockType
}

// A damageQueue holds what waits for repair. The engine's mu guards it.
type damageQueue struct {
	todo    []damage
	known   map[damage]bool
	running bool
}

// damaged queues what a read found.
func (e *engine) damaged(m *member, ref *chain.NodeError) {
	d := damage{m, ref.Inum, ref.Ref.Key, ref.Ref.Type}
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
			e.log.Warn("damage was not repaired", "member", d.m.spec.Name, "inode", d.inum, "key", d.key, "err", err)
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
	if d.kind != ondisk.TypeData && d.kind != ondisk.TypeDirent {
		return e.condemn(d)
	}
	var c *conn
	var is NodeState
	e.ask(func() {
		is = d.m.state
		if !d.m.taken && d.m.state == NodeInSync {
			c = d.m.conn
		}
	})
	if c == nil {
		return fmt.Errorf("the member is %s", is)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, unpin, err := e.pinSource(ctx, d.m.spec.Name)
	if err != nil {
		return err
	}
	defer unpin()
	change, ok, err := d.fetch(ctx, s.View)
	if err != nil || !ok {
		return err // gone meanwhile
	}
	written, err := c.rewrite(ctx, d, change)
	if err == nil && written {
		d.m.repaired.Add(1)
		e.mu.Lock()
		e.announce()
		e.mu.Unlock()
		e.log.Info("repaired", "member", d.m.spec.Name, "from", s.Name, "inode", d.inum, "key", d.key)
	}
	if errors.Is(err, chain.ErrVolumeFailed) {
		e.post(func() { e.fail(d.m, err.Error()) })
	}
	return err
}

// fetch makes the change that writes the leaf as v has it.
func (d damage) fetch(ctx context.Context, v *chain.View) (c chain.Change, ok bool, err error) {
	c = chain.Change{Inum: d.inum, Key: d.key}
	if d.kind == ondisk.TypeDirent {
		c.Kind = chain.KindDirent
		err = v.Dirents(ctx, d.inum, d.key, d.key, func(e ondisk.Dirent, ref *ondisk.Blockref) bool {
			c.Dirent, c.ModifyTid, ok = e, ref.ModifyTid, true
			return false
		})
		return c, ok, err
	}
	c.Kind = chain.KindData
	var ref ondisk.Blockref
	err = v.DataRefs(ctx, d.inum, d.key, d.key+1, func(r *ondisk.Blockref) bool {
		ref, ok = *r, true
		return false
	})
	if err != nil || !ok {
		return c, false, err
	}
	c.ModifyTid = ref.ModifyTid
	c.Block, err = v.ReadBlock(ctx, &ref)
	return c, err == nil, err
}

// rewrite puts the leaf in place of the damaged one, if that is still the
// same version of it. Tree and state keep their numbers: the content is what
// the cluster has at this txg.
func (c *conn) rewrite(ctx context.Context, d damage, change chain.Change) (written bool, err error) {
	t, err := c.vol.Begin(ctx)
	if err != nil {
		return false, err
	}
	t.UseReserve()
	v, err := t.View(ctx, c.label)
	if err != nil {
		t.Abort()
		return false, err
	}
	same, err := d.still(ctx, v, change.ModifyTid)
	T := v.T()
	v.Release()
	if err == nil && same {
		err = t.Apply(ctx, c.label, &chain.Batch{T: T, Changes: []chain.Change{change}, Discard: true})
	}
	if err != nil || !same {
		t.Abort()
		return false, err
	}
	if err := t.Commit(ctx); err != nil {
		return false, err
	}
	return true, c.showAgain(ctx)
}

// still reports whether the leaf has that modify_tid and cannot be read.
func (d damage) still(ctx context.Context, v *chain.View, modify ondisk.Tid) (bool, error) {
	if d.kind == ondisk.TypeDirent {
		err := v.Dirents(ctx, d.inum, d.key, d.key, func(ondisk.Dirent, *ondisk.Blockref) bool { return false })
		return err != nil, nil
	}
	var ref ondisk.Blockref
	found := false
	err := v.DataRefs(ctx, d.inum, d.key, d.key+1, func(r *ondisk.Blockref) bool {
		ref, found = *r, true
		return false
	})
	if err != nil || !found || ref.ModifyTid != modify {
		return false, err
	}
	_, err = v.ReadBlock(ctx, &ref)
	return err != nil, nil
}

// showAgain gives readers the tree with the repaired leaf.
func (c *conn) showAgain(ctx context.Context) error {
	v, err := c.vol.View(ctx, c.label)
	if err != nil {
		return err
	}
	c.vmu.Lock()
	old := c.view
	if old == nil || v.T() != c.pos.T { // a txg came between: its own view follows
		old = v
	} else {
		c.view = v
	}
	c.vmu.Unlock()
	old.Release()
	return nil
}

// condemn has a member resynced as a whole.
func (e *engine) condemn(d damage) error {
	err := ErrPoolClosed
	e.ask(func() {
		m := d.m
		err = nil
		switch {
		case m.conn == nil || m.taken || m.state != NodeInSync:
		case e.spare(m) != nil:
			err = e.spare(m)
		default:
			m.conn.setReason(fmt.Sprintf("a table of inode %d is damaged", d.inum))
			m.flags = core.Tainted
			st := m.conn.state()
			st.Flags = core.Tainted
			e.step(core.Detach{Node: m.fsid})
			e.attach(m, st)
		}
	})
	return err
}
