package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// An encoder compresses and checks blocks once, for all nodes, in workers:
// complete ones while their group is still open, the others at its close.
type encoder struct {
	pool *Pool
	jobs chan encodeJob
	quit chan struct{} // closed when no job is done any more
	wg   sync.WaitGroup
}

type encodeJob struct {
	o *overlay
	n *onode
	b *oblock
}

const (
	encodeQueue = 128 // blocks waiting; more are left to the close
	encodeAlone = 4   // so few are not worth waking workers
)

func (e *encoder) start(p *Pool) {
	e.pool = p
	e.jobs, e.quit = make(chan encodeJob, encodeQueue), make(chan struct{})
	for range runtime.GOMAXPROCS(0) {
		e.wg.Go(e.work)
	}
}

func (e *encoder) work() {
	p := e.pool
	for {
		select {
		case j := <-e.jobs:
			// What fails here is tried again at the close.
			if comp, check, err := p.settings(p.ctx, j.o, j.n); err == nil {
				_ = encodeBlock(j.o, j.n, j.b, comp, check)
			}
			j.o.encoding.Done()
		case <-e.quit:
			return
		}
	}
}

// stop ends the workers; no group is committed any more. A call that a close
// could not wait for may still be inside of one: its blocks are left alone.
func (e *encoder) stop() {
	close(e.quit)
	e.wg.Wait()
}

// early hands a block that was just filled to the end to the workers, once.
func (e *encoder) early(o *overlay, n *onode, b *oblock) {
	n.mu.Lock()
	first := !b.early && len(b.buf) == ondisk.LogicalBlock && len(b.gaps) == 0
	b.early = b.early || first
	n.mu.Unlock()
	if !first {
		return
	}
	o.encoding.Add(1)
	select {
	case e.jobs <- encodeJob{o, n, b}:
	default:
		o.encoding.Done()
	}
}

// encodeBlock encodes what b holds now; if it is changed meanwhile the result
// is thrown away.
func encodeBlock(o *overlay, n *onode, b *oblock, comp, check uint8) error {
	n.mu.Lock()
	buf := b.buf
	if b.ready || b.frozen || len(buf) == 0 || len(b.gaps) > 0 {
		n.mu.Unlock()
		return nil
	}
	b.frozen = true
	n.mu.Unlock()
	enc, hole, err := ondisk.EncodeData(buf, comp, check)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(b.buf) != len(buf) || &b.buf[0] != &buf[0] {
		return nil
	}
	b.frozen = false
	if err != nil {
		return fmt.Errorf("inode %d: block %#x: %w", n.inum, b.key, err)
	}
	b.enc, b.hole, b.ready = enc, hole, true
	if enc != nil && enc.Comp == ondisk.CompNone && len(enc.Bytes) == len(buf) {
		// The same bytes: one copy is enough.
		b.buf, b.shared = enc.Bytes, true
		putBuffer(buf)
	}
	return nil
}

// settings are the compression and check settings of an inode.
func (p *Pool) settings(ctx context.Context, o *overlay, n *onode) (comp, check uint8, err error) {
	in, ok, err := p.inodeAs(ctx, o, n.inum)
	if err == nil && !ok {
		err = fmt.Errorf("inode %d: %w", n.inum, chain.ErrNoInode)
	}
	if err != nil {
		return 0, 0, err
	}
	return in.Meta.CompAlgo, in.Meta.CheckAlgo, nil
}

// encodeRest encodes what is left of a closed group, in parallel.
func (p *Pool) encodeRest(ctx context.Context, o *overlay, nodes []*onode) error {
	o.encoding.Wait()
	type job struct {
		encodeJob
		comp, check uint8
	}
	var jobs []job
	for _, n := range nodes {
		known := false
		var comp, check uint8
		for _, b := range n.blocks {
			if b.ready || len(b.buf) == 0 {
				continue
			}
			if !known {
				var err error
				if comp, check, err = p.settings(ctx, o, n); err != nil {
					return err
				}
				known = true
			}
			jobs = append(jobs, job{encodeJob{o, n, b}, comp, check})
		}
	}
	part := func(jobs []job) (err error) {
		for _, j := range jobs {
			err = errors.Join(err, encodeBlock(o, j.n, j.b, j.comp, j.check))
		}
		return err
	}
	workers := min(runtime.GOMAXPROCS(0), len(jobs)/encodeAlone)
	if workers < 2 {
		return part(jobs)
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		mine := jobs[w*len(jobs)/workers : (w+1)*len(jobs)/workers]
		wg.Go(func() { errs[w] = part(mine) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// build makes the batch of a closed group. Errors are those of reading an
// inode's settings from the tree.
func (p *Pool) build(ctx context.Context, g *group) (*chain.Batch, error) {
	nodes, err := p.existing(ctx, g)
	if err != nil {
		return nil, err
	}
	if err := p.fillRest(ctx, g, nodes); err != nil {
		return nil, err
	}
	if err := p.encodeRest(ctx, g.overlay, nodes); err != nil {
		return nil, err
	}
	if nodes, err = p.settleAccounts(ctx, g, nodes); err != nil {
		return nil, err
	}
	room := int(g.load.leaves.Load()) + len(nodes)
	b := &chain.Batch{T: p.engine.nextT(), Changes: make([]chain.Change, 0, max(room, 0)), Ops: g.ops}
	g.bufs = g.bufs[:0]
	for _, n := range nodes {
		n.mu.Lock()
		b.Changes = n.changes(b.Changes, g.isNew(n.inum), p.lastInum.Load())
		for _, blk := range n.blocks {
			if len(blk.gaps) > 0 {
				err = fmt.Errorf("inode %d: block %#x: not complete", n.inum, blk.key)
			}
			if !blk.shared && !blk.frozen && cap(blk.buf) > 0 {
				g.bufs = append(g.bufs, blk.buf)
			}
		}
		n.mu.Unlock()
	}
	if err != nil {
		return nil, err
	}
	if p.recent != nil {
		p.recent.merge(ctx, p, b)
	}
	b.Log = p.mayLog(g) && b.Loggable()
	return b, nil
}

// existing leaves out changes below inodes that are nowhere. Nobody can have
// asked for them, but a batch with one of them could never be applied, nor
// anything after it.
func (p *Pool) existing(ctx context.Context, g *group) ([]*onode, error) {
	nodes := g.sortedNodes()
	kept := nodes[:0]
	for _, n := range nodes {
		if n.rec == nil && !n.deleted {
			_, ok, err := p.inodeAs(ctx, g.overlay, n.inum)
			if err != nil {
				return nil, err
			}
			if !ok {
				p.log.Error("changes of an inode that does not exist", "inode", n.inum)
				continue
			}
		}
		kept = append(kept, n)
	}
	return kept, nil
}

// sortedNodes lists what the overlay touches by inode number.
func (o *overlay) sortedNodes() []*onode {
	nodes := make([]*onode, 0, max(o.load.inodes.Load(), 0))
	for i := range o.shards {
		s := &o.shards[i]
		s.mu.RLock()
		for _, n := range s.nodes {
			nodes = append(nodes, n)
		}
		s.mu.RUnlock()
	}
	slices.SortFunc(nodes, func(a, b *onode) int { return cmp.Compare(a.inum, b.inum) })
	return nodes
}

// changes appends the leaf changes of an inode in the order of a batch. isNew
// says that there is nothing below to be deleted.
func (n *onode) changes(to []chain.Change, isNew bool, lastInum uint64) []chain.Change {
	switch {
	case n.deleted && n.rec == nil:
		if !isNew {
			to = append(to, chain.Change{Inum: n.inum, Kind: chain.KindInode, Delete: true})
		}
		return to
	case n.rec != nil:
		to = append(to, n.recordChange(lastInum))
	}
	if n.dir != nil {
		for _, e := range n.dir.order() {
			if e.state == dentDead {
				continue
			}
			c := chain.Change{Inum: n.inum, Kind: chain.KindDirent, Key: e.Key, Delete: e.state == dentGone}
			if !c.Delete {
				c.Dirent = e.Dirent
			}
			to = append(to, c)
		}
	}
	if n.rec != nil && n.rec.Meta.DirectData() {
		return to // the inode alone drops what was there
	}
	return n.dataChanges(to, isNew)
}

func (n *onode) recordChange(lastInum uint64) chain.Change {
	c := chain.Change{Inum: n.inum, Kind: chain.KindInode, Inode: &n.rec.Meta}
	if n.inum == ondisk.InumRoot {
		// The pool alone knows which numbers were handed out.
		meta := n.rec.Meta
		meta.PFSInum = max(meta.PFSInum, lastInum)
		c.Inode = &meta
	}
	if c.Inode.DirectData() {
		c.Inline = n.rec.Inline[:min(uint64(len(n.rec.Inline)), c.Inode.Size)]
	}
	return c
}

// dataChanges appends deleted ranges and blocks, sorted by key.
func (n *onode) dataChanges(to []chain.Change, isNew bool) []chain.Change {
	var gone []span
	if !isNew {
		gone = n.holes
		for _, b := range n.blocks {
			if b.enc == nil && b.from == nil {
				gone = joinSpan(slices.Clone(gone), span{b.key, b.key + ondisk.LogicalBlock})
			}
		}
	}
	for _, b := range n.blocks {
		if b.enc == nil && b.from == nil {
			continue
		}
		to, gone = goneUpTo(to, n.inum, gone, b.key)
		c := chain.Change{Inum: n.inum, Kind: chain.KindData, Key: b.key, Block: b.enc, Twin: b.twin}
		if b.from != nil {
			c.Share = &b.from.Share
		}
		to = append(to, c)
	}
	to, _ = goneUpTo(to, n.inum, gone, math.MaxUint64)
	return to
}

// goneUpTo appends the ranges that begin at or before key.
func goneUpTo(to []chain.Change, inum uint64, gone []span, key uint64) ([]chain.Change, []span) {
	for len(gone) > 0 && gone[0].lo <= key {
		to = append(to, chain.Change{Inum: inum, Kind: chain.KindData, Key: gone[0].lo, Delete: true, To: gone[0].hi})
		gone = gone[1:]
	}
	return to, gone
}
