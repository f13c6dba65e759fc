package matrix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/fs/merge"
	"github.com/anvilfs/anvilfs/ondisk"
)

// absent stands for a file that is not there.
const absent = "\x00"

const theBranch = nodes - 1 // the member that was away and changed

// makeBranch is a cluster with a soft master that was mounted alone and changed.
func makeBranch() (*base, error) {
	ctx := context.Background()
	roles := []ondisk.PFSType{ondisk.PFSMaster, ondisk.PFSMaster, ondisk.PFSMaster, ondisk.PFSSlave, ondisk.PFSSoftMaster}
	w, err := rig.NewRoles(ctx, roles, oneSlot)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(6, 1))
	mine := []string{content(rng, 100_000), content(rng, 80_000), content(rng, 5000)}
	b := &base{world: w, loose: map[string][2]string{
		"/one": {"before", mine[0]}, "/gone": {"before", absent}, "/both": {"theirs", "theirs"}, "/new": {absent, mine[1]},
		"/dir": {absent, "dir"}, "/dir/f": {absent, mine[2]}, "/both.conflict-" + rig.Name(theBranch) + "-1": {absent, "ours"},
	}}
	all, soft := w.Specs(), w.Specs()[theBranch:]
	for _, part := range []struct {
		specs []cluster.MemberSpec
		do    func(p *cluster.Pool, f *fs.FS) error
	}{
		{all, func(p *cluster.Pool, f *fs.FS) error {
			return errors.Join(b.fill(ctx, f), put(ctx, f, "one", "before"), put(ctx, f, "gone", "before"), put(ctx, f, "both", "before"),
				p.Wait(ctx, cluster.WaitHealthy), p.NodeOffline(ctx, rig.Name(theBranch)))
		}},
		{soft, func(p *cluster.Pool, f *fs.FS) error {
			dir, err := f.Create(ctx, ondisk.InumRoot, "dir", fs.NewNode{Type: ondisk.ObjDir, Mode: 0o755})
			if err != nil {
				return err
			}
			return errors.Join(put(ctx, f, "one", mine[0]), f.Unlink(ctx, ondisk.InumRoot, "gone"), put(ctx, f, "both", "ours"),
				put(ctx, f, "new", mine[1]), putIn(ctx, f, dir.Meta.Inum, "f", mine[2]))
		}},
		{all[:theBranch], func(p *cluster.Pool, f *fs.FS) error {
			return errors.Join(put(ctx, f, "both", "theirs"), p.Sync(ctx), p.Wait(ctx, cluster.WaitHealthy))
		}},
	} {
		p, err := cluster.OpenPool(ctx, part.specs, cluster.Options{Label: rig.Label})
		if err != nil {
			return nil, err
		}
		f, err := fs.New(ctx, fs.OnPool(p), false, fs.Options{NoAtime: true, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, err
		}
		if err := errors.Join(part.do(p, f), f.Close(ctx), p.Close(ctx)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func put(ctx context.Context, f *fs.FS, name, data string) error {
	return putIn(ctx, f, ondisk.InumRoot, name, data)
}

// putIn makes data the content of a file.
func putIn(ctx context.Context, f *fs.FS, dir uint64, name, data string) error {
	d, ok, err := f.Find(ctx, dir, name)
	if err == nil && !ok {
		var rec *fs.Record
		if rec, err = f.Create(ctx, dir, name, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o644}); err == nil {
			d.Inum = rec.Meta.Inum
			f.Forget(d.Inum, 1)
		}
	}
	if err != nil {
		return err
	}
	size := uint64(len(data))
	if _, err := f.Setattr(ctx, d.Inum, fs.Change{Size: &size}); err != nil {
		return err
	}
	_, err = f.Write(ctx, d.Inum, 0, []byte(data), false)
	return err
}

// read reads the mount. What a merge may have changed or not is one of the two,
// and left out. Of a file that is changed between two of the calls that it takes
// something else may be seen, but not again and again.
func (r *run) read(ctx context.Context) (map[string]string, error) {
	for try := 0; ; try++ {
		found, err := readAll(ctx, r.life.fs)
		if err != nil {
			return nil, err
		}
		if err = r.strict(found); err == nil || try == len(r.loose) {
			return found, err
		}
	}
}

func (r *run) strict(found map[string]string) error {
	for path, v := range r.loose {
		have, ok := found[path]
		if !ok {
			have = absent
		}
		if have != v[0] && have != v[1] {
			return fmt.Errorf("%s is neither as the cluster nor as the branch has it (%d bytes)", path, len(have))
		}
		delete(found, path)
	}
	return nil
}

// firm: from now on all is as one side has it.
func (r *run) firm(side int) {
	for i, s := range r.model.states {
		s = maps.Clone(s)
		for path, v := range r.loose {
			if v[side] != absent {
				s[path] = v[side]
			}
		}
		r.model.states[i] = s
	}
	r.loose = nil
}

// merges does for the mount what the command does: it merges the branches that
// are back, or gives them up.
func (r *run) merges(ctx context.Context, l *life) {
	for ctx.Err() == nil {
		changed := l.pool.Changed()
		for _, b := range l.pool.Branches() {
			m := merge.New(l.fs, l.pool, &b, merge.Options{Logger: r.logger()})
			err := error(nil)
			if !r.row().gives {
				err = m.Merge(ctx)
			}
			if err == nil {
				_, err = l.pool.EndBranch(ctx, &b)
			}
			if err == nil && !r.row().gives {
				err = m.Finish(ctx)
			}
			r.note("merge of %s: %v", b.Name, err)
		}
		select {
		case <-changed:
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// away pulls the branch, which comes back in the errand.
func away(r *run) {
	r.loose = r.base.loose
	if r.cell.at != promise {
		r.w.Members[theBranch].Pull()
	}
}

func comesBack(r *run, l *life) error {
	e := r.w.Members[theBranch]
	if r.m != e || !r.hasFired() { // else it is pulled or not as the fault says
		e.Plug(nil)
	}
	if err := l.pool.NodeOnline(l.ctx, e.Name); err != nil && !r.hasFired() {
		return fmt.Errorf("node online: %w", err)
	}
	for {
		changed := l.pool.Changed()
		for _, n := range l.pool.Status().Nodes {
			if n.Name == e.Name && n.State == cluster.NodeInSync && len(l.pool.Branches()) == 0 {
				return nil
			}
		}
		select {
		case <-changed:
		case <-time.After(time.Second):
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
	}
}

// isBranch: nothing the branch waits for ends before it is well. A copy that is
// being resynced is one that m was before, too.
func isBranch(r *run) bool { return r.cell.member == theBranch }

// merged demands that the branch is kept, and that all its changes are there.
func merged(side int) func(r *run) {
	return func(r *run) {
		r.healthy()
		r.firm(side)
		r.reads()
	}
}

func mergeRow(name string, deadly, gives bool) *row {
	side := 1
	if gives {
		side = 0
	}
	return &row{name: name, deadly: deadly, gives: gives, branch: true, prepare: away, play: errandScript,
		errand: &errand{do: comesBack, taken: isBranch, copies: true, after: merged(side)},
		skip: unlessBare(func(c cell) string {
			if c.member == theBranch && c.at == promise {
				return "a branch promises nothing"
			}
			if c.member == theBranch && c.at == idle {
				return "a branch is away before it comes back"
			}
			return ""
		})}
}
