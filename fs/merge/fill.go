package merge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A filling writes what the branch has of an inode into one of the cluster,
// which is locked.
type filling struct {
	r     *Run
	g     *fs.Graft
	x     uint64 // in the branch
	in    *chain.InodeRec
	rec   *fs.Record // what the cluster's becomes
	keys  []uint64   // of the blocks to be written
	fresh bool       // it has none yet
	old   *fs.Record // as it is, nil if fresh

	attrs    []ondisk.Xattr
	setAttrs bool
	named    func() error // gives it its name, in the first step; may be nil
	conflict *Conflict    // to be listed with it
	final    bool         // the item is done with it
}

// overwrite gives an inode of base, that the cluster did not change, what the
// branch made of it.
func (r *Run) overwrite(ctx context.Context, g *fs.Graft, inum uint64) error {
	old, _, err := g.Inode(ctx, inum)
	if err != nil {
		return err
	}
	f := &filling{r: r, g: g, x: inum, old: old, rec: &fs.Record{Meta: old.Meta}, final: true}
	if err := f.read(ctx); err != nil {
		return err
	}
	had, err := attrs(ctx, r.base, inum)
	if err != nil {
		return err
	}
	f.setAttrs = !sameAttrs(had, f.attrs)
	base, _, err := r.base.Inode(ctx, inum)
	if err != nil {
		return err
	}
	if f.blocks() && (base.Meta.DirectData() || old.Meta.DirectData()) {
		err = f.allKeys(ctx)
	} else if f.blocks() {
		f.keys, err = dataKeys(ctx, r.ours, r.base, r.since, inum, 0)
	}
	if err != nil {
		return err
	}
	return f.run(ctx)
}

// again writes what the branch has of x once more into an inode that a crash
// left half written.
func (r *Run) again(ctx context.Context, x, inum uint64) error {
	return r.under(ctx, []uint64{inum}, func(g *fs.Graft) error {
		old, ok, err := g.Inode(ctx, inum)
		if err != nil || !ok {
			return fmt.Errorf("file %d is gone: %w", inum, errAgain)
		}
		f := &filling{r: r, g: g, x: x, old: old, rec: &fs.Record{Meta: old.Meta}, setAttrs: true, final: true}
		if err := f.read(ctx); err != nil {
			return err
		}
		if f.blocks() {
			if err := f.allKeys(ctx); err != nil {
				return err
			}
		}
		return f.run(ctx)
	})
}

// read takes up what the branch has.
func (f *filling) read(ctx context.Context) (err error) {
	var ok bool
	if f.in, ok, err = f.r.ours.Inode(ctx, f.x); err != nil || !ok {
		return fmt.Errorf("inode %d of the branch: %w", f.x, firstOf(err, chain.ErrNoInode))
	}
	f.attrs, err = attrs(ctx, f.r.ours, f.x)
	return err
}

func firstOf(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// blocks reports whether the content is to lie in blocks.
func (f *filling) blocks() bool {
	return hasData(f.in.Meta.Type) && !f.in.Meta.DirectData() && f.in.Meta.Size > 0
}

// allKeys has every block written that is no hole, and the first.
func (f *filling) allKeys(ctx context.Context) error {
	f.keys = []uint64{0}
	return f.r.ours.DataRefs(ctx, f.x, 1, f.in.Meta.Size, func(ref *ondisk.Blockref) bool {
		if ref.Key != 0 {
			f.keys = append(f.keys, ref.Key)
		}
		return true
	})
}

// A block is what is at a key: nil data is a hole.
type block struct {
	key  uint64
	size uint64
	data []byte
}

func (f *filling) load(ctx context.Context, keys []uint64) (list []block, err error) {
	for _, key := range keys {
		if key >= f.in.Meta.Size {
			continue
		}
		b := block{key: key, size: min(ondisk.LogicalBlock, f.in.Meta.Size-key)}
		there := key == 0
		err := f.r.ours.DataRefs(ctx, f.x, key, key+1, func(*ondisk.Blockref) bool { there = true; return false })
		if err == nil && there {
			b.data = make([]byte, b.size)
			err = f.r.ours.ReadData(ctx, f.x, key, b.data)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the branch: %w", err)
		}
		list = append(list, b)
	}
	return list, nil
}

// run makes the steps: one, unless there is too much data.
func (f *filling) run(ctx context.Context) error {
	now := f.r.o.Now()
	stamp := now.UnixNano()
	m := &f.rec.Meta
	setSubstance(m, &f.in.Meta)
	m.SetCtime(now.Unix(), uint32(now.Nanosecond()))
	switch {
	case !hasData(m.Type):
	case f.blocks():
		m.OpFlags &^= ondisk.OpDirectData
	default:
		m.OpFlags |= ondisk.OpDirectData
		f.rec.Inline = slices.Clone(inline(f.in))
	}
	parts := [][]uint64{f.keys}
	if uint64(len(f.keys))*ondisk.LogicalBlock > f.r.o.Small {
		parts = slices.Collect(slices.Chunk(f.keys, chunk/ondisk.LogicalBlock))
	}
	for i, keys := range parts {
		list, err := f.load(ctx, keys)
		if err != nil {
			return err
		}
		cost := fs.Cost{Leaves: len(keys) + 24, Bytes: int64(len(keys)+2)*ondisk.LogicalBlock + f.rest()}
		last := i == len(parts)-1
		err = f.g.Step(ctx, cost, func() error { return f.step(ctx, list, i == 0, last, stamp) })
		if err != nil {
			return err
		}
		f.r.o.pause(true)
	}
	inum := m.Inum
	f.r.touched[inum] = stamp
	f.r.tell(func(k Kernel) { k.InvalidateInode(inum) })
	return nil
}

// rest is what attributes and the list of conflicts add.
func (f *filling) rest() (n int64) {
	for _, a := range f.attrs {
		n += int64(len(a.Value)) + 64
	}
	if f.conflict != nil {
		n += listCost
	}
	return n
}

func (f *filling) step(ctx context.Context, list []block, first, last bool, stamp int64) error {
	inum, size := f.rec.Meta.Inum, f.rec.Meta.Size
	direct := f.old != nil && f.old.Meta.DirectData()
	resize := f.old != nil && f.blocks() && f.old.Meta.Size != size
	if first && resize && !direct {
		if err := f.g.Resize(ctx, inum, f.old.Meta.Size, size); err != nil {
			return err
		}
	}
	for _, b := range list {
		var err error
		if b.data == nil {
			err = f.g.Zero(ctx, inum, b.key, b.key+b.size)
		} else {
			err = f.g.Write(ctx, inum, b.key, b.data)
		}
		if err != nil {
			return err
		}
	}
	if first {
		if resize && direct && size < f.old.Meta.Size {
			if err := f.g.Resize(ctx, inum, f.old.Meta.Size, size); err != nil {
				return err
			}
		}
		if err := f.begin(ctx, stamp); err != nil {
			return err
		}
	}
	var c *Conflict
	if first {
		c = f.conflict
	}
	if last {
		stamp = 0
	}
	return f.r.mark(ctx, f.g, last && f.final, stamp, c)
}

// begin makes record, attributes and name part of the first step.
func (f *filling) begin(ctx context.Context, stamp int64) error {
	f.g.Put(f.rec)
	if f.setAttrs || f.fresh && len(f.attrs) > 0 {
		if err := f.g.SetAttrs(ctx, f.rec.Meta.Inum, f.attrs); err != nil {
			return err
		}
	}
	if f.named == nil {
		return nil
	}
	if err := f.named(); err != nil {
		return err
	}
	at := time.Unix(0, stamp)
	f.g.Update(f.rec.Meta.Inum, func(m *ondisk.InodeMeta) { m.SetCtime(at.Unix(), uint32(at.Nanosecond())) })
	return nil
}
