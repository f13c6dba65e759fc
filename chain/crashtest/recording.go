package crashtest

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A recording is a workload that was run.
type recording struct {
	Recording
	sizes   []int64
	commits []commit
	aborted int

	restored int // blocks that were taken out of snapshots
}

// record runs a workload on a new volume of that shape. Flush number drop is
// lost on the way, if it is not 0.
func record(ctx context.Context, w Workload, shape Shape, seed uint64, drop int) (*recording, error) {
	base := shape.Base
	if base == nil {
		var err error
		if base, err = shape.build(ctx); err != nil {
			return nil, err
		}
	}
	s, err := openSession(ctx, NewTap(base, drop, shape.Sizes...), nil, seed, nil)
	if err != nil {
		return nil, err
	}
	s.tight = shape.Free > 0
	if err = s.settle(); err == nil {
		err = s.run(w)
	}
	if err != nil {
		return nil, fmt.Errorf("without any cut: %w", err)
	}
	if err := s.tap.Misuse(); err != nil {
		return nil, err
	}
	rec := s.recording(shape.Sizes)
	rec.Recover = rec.again
	return rec, nil
}

// recording is what the session did.
func (s *session) recording(sizes []int64) *recording {
	r := &recording{sizes: sizes, commits: s.commits, aborted: s.aborted, restored: s.restored}
	r.Tap, r.Judge = s.tap, r.judge
	for _, c := range s.commits {
		r.Moments = append(r.Moments, c.Moment)
	}
	return r
}

func (r *recording) judge(ctx context.Context, img *memdev.Device, want []int) (uint64, error) {
	return judge(ctx, img, r.sizes, r.after(want))
}

// after are the commits of these moments.
func (r *recording) after(want []int) (list []*commit) {
	for _, i := range want {
		list = append(list, &r.commits[i])
	}
	return list
}

// again opens an image under a tap and goes on a little.
func (r *recording) again(ctx context.Context, img *memdev.Device, from int, salt uint64) (*Recording, error) {
	s, err := openSession(ctx, NewTap(img, 0, r.sizes...), nil, salt, r.commits[from].state)
	if err != nil {
		return nil, err
	}
	if err := s.probe(); err != nil {
		return nil, err
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	return &s.recording(r.sizes).Recording, nil
}

// settle makes the PFSs that steps go to, where they are missing.
func (s *session) settle() error {
	if s.now.trees[first] != nil {
		return nil
	}
	return s.txn("new PFSs", func(t *chain.Txn, m *volume) error {
		for _, label := range []string{first, second} {
			meta := ondisk.NewInodeMeta(ondisk.InumRoot, ondisk.ObjDir)
			meta.Mode = 0o755
			tr := &tree{fsid: wordUUID(label), t: s.tid(), leaves: map[leafKey]leaf{{inum: ondisk.InumRoot}: inodeLeaf(&meta, nil)}}
			m.trees[label] = tr
			if err := t.CreatePFS(s.ctx, chain.PFSSpec{Label: label, Fsid: tr.fsid, Clid: wordUUID("cluster " + label), T: tr.t, Meta: &meta}); err != nil {
				return err
			}
		}
		return nil
	})
}
