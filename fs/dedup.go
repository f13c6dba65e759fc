package fs

import (
	"context"
	"errors"
	"slices"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A merger is a store that can have blocks in several places.
type merger interface {
	MediaBlocks(ctx context.Context, inum, key uint64, limit int) (list []cluster.PlacedBlock, nextInum, nextKey uint64, err error)
}

const (
	dedupPage  = 2048 // blocks that a step looks at
	dedupRun   = 64   // blocks that one transaction merges
	dedupEntry = 128  // bytes that a block takes in the index, about
)

// DedupOptions say what a Dedup looks at.
type DedupOptions struct {
	DryRun  bool
	MinSize uint64   // of files
	Inums   []uint64 // only these files; nil = all
	Memory  uint64   // for the index; 0 = 32 MiB
}

// A DedupReport says how far a Dedup is.
type DedupReport struct {
	Pass    int    `json:"pass"` // 1 to Passes: each looks at all blocks, and for a part of them for equals
	Passes  int    `json:"passes"`
	Inum    uint64 `json:"inode"`                // where it is
	Files   uint64 `json:"files"`                // looked at
	Blocks  uint64 `json:"blocks"`               // of them
	Bytes   uint64 `json:"bytes"`                // on media, of these
	Already uint64 `json:"already_shared_bytes"` // of these, in a place looked at before
	Merged  uint64 `json:"merged_blocks"`        // that have no block of their own any more; with DryRun, that seem to be equal
	Saved   uint64 `json:"merged_bytes"`         // of these
	Changed uint64 `json:"changed_blocks"`       // seemed to be equal and are not, or changed meanwhile
	DryRun  bool   `json:"dry_run"`
	Done    bool   `json:"done"`
}

// A Dedup looks for equal blocks and lets their files share one, while the
// filesystem is in use. It works in steps and keeps nothing but its index between
// them: what changes meanwhile is looked at again before it is merged.
type Dedup struct {
	f     *FS
	from  merger
	o     DedupOptions
	rep   DedupReport
	key   uint64 // with rep.Inum: where the next step begins
	index map[cluster.BlockID]cluster.PlacedBlock
	run   dedupPair
	seen  uint64 // the file counted last
}

// A dedupPair is a run of blocks that seem to be equal.
type dedupPair struct {
	src, dst cluster.PlacedBlock // the first of each
	n        int
	bytes    uint64
}

// NewDedup begins one; nothing happens before the first Step.
func (f *FS) NewDedup(o DedupOptions) (*Dedup, error) {
	from, ok := f.store.(merger)
	if !ok {
		return nil, errors.New("this filesystem cannot share blocks")
	}
	if o.Memory == 0 {
		o.Memory = 32 << 20
	}
	slices.Sort(o.Inums)
	st := f.store.StatFS()
	blocks := (st.Total - min(st.Total, st.Free)) / (ondisk.LogicalBlock / 4) // some are compressed
	d := &Dedup{f: f, from: from, o: o, index: make(map[cluster.BlockID]cluster.PlacedBlock)}
	d.rep.DryRun, d.rep.Pass = o.DryRun, 1
	d.rep.Passes = int(min(blocks*dedupEntry/o.Memory+1, 256))
	return d, nil
}

// Report is how far it is.
func (d *Dedup) Report() DedupReport { return d.rep }

// Step looks at some blocks and says whether there are more.
func (d *Dedup) Step(ctx context.Context) (more bool, err error) {
	if d.rep.Done {
		return false, nil
	}
	list, inum, key, err := d.from.MediaBlocks(ctx, d.rep.Inum, d.key, dedupPage)
	if err != nil {
		return false, err
	}
	for i := range list {
		if b := &list[i]; d.wanted(b) {
			if err := d.look(ctx, b); err != nil {
				return false, err
			}
		}
	}
	if err := d.flush(ctx); err != nil {
		return false, err
	}
	d.rep.Inum, d.key = inum, key
	if inum != 0 {
		return true, nil
	}
	if d.rep.Pass == d.rep.Passes {
		d.rep.Done, d.index = true, nil
		return false, nil
	}
	d.rep.Pass++
	clear(d.index)
	return true, nil
}

// wanted reports whether a block is looked at in this pass, and counts it in the first.
func (d *Dedup) wanted(b *cluster.PlacedBlock) bool {
	if b.FileSize < d.o.MinSize {
		return false
	}
	if d.o.Inums != nil {
		if _, ok := slices.BinarySearch(d.o.Inums, b.Inum); !ok {
			return false
		}
	}
	if d.rep.Pass == 1 {
		if d.seen != b.Inum {
			d.seen = b.Inum
			d.rep.Files++
		}
		d.rep.Blocks++
		d.rep.Bytes += b.Bytes
	}
	return int(b.ID.Prefix())%d.rep.Passes == d.rep.Pass-1
}

// look puts a block into the index, or into a run if an equal one is there.
func (d *Dedup) look(ctx context.Context, b *cluster.PlacedBlock) error {
	first, ok := d.index[b.ID]
	switch r := &d.run; {
	case !ok:
		d.index[b.ID] = *b
		return nil
	case first.Off == b.Off:
		d.rep.Already += b.Bytes
		return nil
	case r.n > 0 && r.n < dedupRun && first.Inum == r.src.Inum && b.Inum == r.dst.Inum &&
		first.Key == r.src.Key+uint64(r.n)*ondisk.LogicalBlock && b.Key == r.dst.Key+uint64(r.n)*ondisk.LogicalBlock:
		r.n++
		r.bytes += b.Bytes
		return nil
	}
	if err := d.flush(ctx); err != nil {
		return err
	}
	d.run = dedupPair{first, *b, 1, b.Bytes}
	return nil
}

// flush merges the run.
func (d *Dedup) flush(ctx context.Context) error {
	r := d.run
	d.run = dedupPair{}
	if r.n == 0 {
		return nil
	}
	if d.o.DryRun {
		d.rep.Merged += uint64(r.n)
		d.rep.Saved += r.bytes
		return nil
	}
	m, err := d.f.merge(ctx, &r)
	d.rep.Merged += uint64(m.Blocks)
	d.rep.Saved += m.Bytes
	d.rep.Already += m.Already
	if err == nil {
		d.rep.Changed += uint64(r.n - m.Blocks - m.Had)
	}
	if m.Blocks+m.Had == 0 && err == nil {
		d.index[r.dst.ID] = r.dst // what was there first may be gone
	}
	return err
}

// merge lets the files of a run share its blocks, as far as they are equal. The
// content of both stays as it is, and so do all times.
func (f *FS) merge(ctx context.Context, r *dedupPair) (m cluster.Merged, err error) {
	s := f.lockset()
	defer s.unlock()
	s.cover(min(r.src.Inum, r.dst.Inum), max(r.src.Inum, r.dst.Inum))
	for _, inum := range []uint64{r.src.Inum, r.dst.Inum} {
		rec, err := s.record(ctx, inum)
		if errors.Is(err, errStale) { // deleted meanwhile
			return m, nil
		}
		if err != nil || rec.Meta.Type != ondisk.ObjFile || rec.Meta.DirectData() {
			return m, err
		}
	}
	to, err := s.record(ctx, r.dst.Inum)
	if err != nil {
		return m, err
	}
	t, err := f.store.Begin(ctx, cluster.ShareCost(uint64(r.n)*ondisk.LogicalBlock))
	if err != nil {
		return m, err
	}
	defer t.End()
	store, ok := t.(interface {
		MergeData(ctx context.Context, src, srcKey, dst, dstKey, dstSize uint64, n int) (cluster.Merged, error)
	})
	if !ok {
		return m, errNotHere
	}
	return store.MergeData(ctx, r.src.Inum, r.src.Key, r.dst.Inum, r.dst.Key, to.Meta.Size, r.n)
}
