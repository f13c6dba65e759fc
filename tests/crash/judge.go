package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// recording is what the session did, with the judge of its images.
func (s *session) recording() *crashtest.Recording {
	r := &recording{shape: s.shape, ticks: s.ticks.Load(), moments: s.moments}
	c := &crashtest.Recording{Tap: s.tap, Judge: r.judge, Recover: r.recover}
	for _, m := range s.moments {
		c.Moments = append(c.Moments, m.Moment)
	}
	return c
}

type recording struct {
	shape   Shape
	ticks   int64
	moments []moment
}

// judge opens an image and returns the digest of what it shows.
func (r *recording) judge(ctx context.Context, img *memdev.Device, want []int) (uint64, error) {
	devs := crashdev.Split(img, r.shape.sizes()...)
	for i, d := range devs[:r.shape.Masters] {
		err := crashtest.CheckStructure(d)
		if r.shape.Part > 0 && i == r.shape.part()-1 {
			err = r.shape.checkLast(img)
		}
		if err != nil {
			return 0, fmt.Errorf("member %d as it was left: %w", i, err)
		}
	}
	s := newSession(ctx, r.shape, nil, devs, 1)
	s.ticks.Store(r.ticks)
	digest, err := s.use(r, want)
	return digest, errors.Join(err, s.close())
}

// use demands that the filesystem shows one of the moments, and goes on.
func (s *session) use(r *recording, want []int) (uint64, error) {
	if err := s.mountAny(); err != nil {
		return 0, err
	}
	d, err := s.dump()
	if err != nil {
		return 0, fmt.Errorf("reading it: %w", err)
	}
	digest := d.digest()
	s.cloned = strings.Contains(strings.Join(d.short, "\n"), cloneMark)
	if err := r.shows(want, d); err != nil {
		return 0, err
	}
	if s.shape.Masters > 1 {
		if err := s.mend(); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(s.growAll(), s.extendIt()); err != nil {
		return 0, fmt.Errorf("growing: %w", err)
	}
	after, err := s.probe()
	if err == nil {
		s.noteLevel()
		err = s.close()
	}
	if err == nil {
		err = s.inspect()
	}
	if err == nil && digest%4 == 0 {
		err = s.again(after)
	}
	if err != nil {
		return 0, fmt.Errorf("going on: %w", err)
	}
	return digest, nil
}

func (r *recording) shows(want []int, d *dump) error {
	var errs []error
	for _, i := range want {
		diff := differ(r.moments[i].dump.full, d.full)
		if diff == "" {
			return nil
		}
		errs = append(errs, fmt.Errorf("not the state after %q: %s", r.moments[i].What, diff))
	}
	return errors.Join(errs...)
}

// probe makes a few calls, syncs, and returns what there is then.
func (s *session) probe() (*dump, error) {
	m := newModel()
	name := "probe"
	for {
		r, ok, err := s.f.Lookup(s.ctx, ondisk.InumRoot, name)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		s.f.Forget(r.Meta.Inum, 1)
		name += "+"
	}
	dir, err := s.make(m, name, fs.NewNode{Type: ondisk.ObjDir, Mode: 0o700})
	if err != nil {
		return nil, err
	}
	file, err := s.make(m, name+"/file", fs.NewNode{Type: ondisk.ObjFile, Mode: 0o600})
	if err != nil {
		return nil, err
	}
	if err := s.write(m, file, 500, 3000); err != nil {
		return nil, err
	}
	if err := s.sync(); err != nil {
		return nil, err
	}
	if err := s.f.Rename(s.ctx, dir, "file", dir, "other", 0); err != nil {
		return nil, err
	}
	if err := s.sync(); err != nil {
		return nil, err
	}
	return s.dump()
}

// changed waits for the end of a change of members that is due: it would go on while
// the pool is closed, and who leaves then lacks what comes after that.
func (s *session) changed() {
	due := func() bool {
		st := s.pool.Status()
		return st.Quorum.Changing || slices.ContainsFunc(st.Nodes, func(n cluster.NodeStatus) bool {
			return n.State == cluster.NodeInSync && n.Replaces != ""
		})
	}
	for end := time.Now().Add(patience); s.shape.Spares > 0 && due() && time.Now().Before(end); {
		time.Sleep(100 * time.Microsecond)
	}
}

// noteLevel notes which devices are of members in sync: when all is closed they
// are to be equal. Without spares that is all of them.
func (s *session) noteLevel() {
	s.changed()
	s.level = make([]bool, len(s.devs))
	nodes := s.pool.Status().Nodes
	for i := range s.devs {
		s.level[i] = s.shape.Spares == 0 && (s.shape.Part == 0 || i != s.shape.part()) && (!s.shape.Cached || i != s.shape.cache()) || slices.ContainsFunc(nodes, func(n cluster.NodeStatus) bool {
			return n.Name == fmt.Sprintf("m%d", i) && n.State == cluster.NodeInSync
		})
	}
}

// inspect looks at the members of a filesystem that was closed.
func (s *session) inspect() error {
	clones := 0
	for i := range s.devs {
		r, err := fsck.Check(s.ctx, s.shape.volume(s.devs, i), fsck.Options{AllSlots: true, Workers: 1})
		if err != nil && i >= s.shape.Masters && !s.level[i] {
			continue // a spare, perhaps half formatted, that is no member yet
		}
		if err != nil {
			return fmt.Errorf("fsck of member %d: %w", i, err)
		}
		if i < s.shape.Masters && slices.ContainsFunc(r.PFSs, func(p fsck.PFSReport) bool { return p.Label == cloneLabel }) {
			clones++
		}
		for _, f := range r.Findings {
			if f.Severity > fsck.Info && !(s.spoilt && strings.HasPrefix(f.PFS, "diverged-")) {
				return fmt.Errorf("fsck of member %d: %d errors, %d warnings, the first %v", i, r.Errors, r.Warnings, f)
			}
		}
	}
	if err := s.inspectClone(clones); err != nil {
		return err
	}
	if s.shape.Masters == 1 {
		return nil
	}
	var level [][]ondisk.Device
	for i := range s.devs {
		if s.level[i] {
			level = append(level, s.shape.volume(s.devs, i))
		}
	}
	list, err := positions(s.ctx, level)
	if err != nil {
		return err
	}
	if len(list) <= s.shape.Masters/2 {
		return fmt.Errorf("%d members are in sync", len(list))
	}
	for _, pos := range list {
		if pos != list[0] {
			return fmt.Errorf("members are at %v; before they were closed: %s", list, s.closing)
		}
	}
	return nil
}

// again mounts once more: what was synced is there.
func (s *session) again(want *dump) error {
	if err := s.mountAny(); err != nil {
		return err
	}
	got, err := s.dump()
	if err == nil {
		if diff := differ(want.full, got.full); diff != "" {
			err = fmt.Errorf("mounted again it is different: %s", diff)
		}
	}
	return errors.Join(err, s.close())
}

// mountAny mounts whatever members there are.
func (s *session) mountAny() error {
	specs := s.shape.specs(s.devs)
	if s.shape.Spares == 0 {
		return s.mount(specs...)
	}
	return s.mountReplaced()
}

// recover opens an image under a tap, makes a call and closes it.
func (r *recording) recover(ctx context.Context, img *memdev.Device, from int, salt uint64) (*crashtest.Recording, error) {
	s := newSession(ctx, r.shape, r.shape.newTap(img, salt), nil, salt)
	s.ticks.Store(r.ticks)
	s.ragged = true // some may be behind
	defer s.close()
	if err := s.mountAny(); err != nil {
		return nil, err
	}
	if err := s.first(r.moments[from].m); err != nil {
		return nil, err
	}
	if s.shape.Masters > 1 {
		if err := s.mend(); err != nil {
			return nil, err
		}
	}
	s.base = fmt.Sprintf("again%d", salt)
	for _, c := range []call{{"setup", callSetup}, {"write", callWrite}} {
		if err := s.call(c); err != nil {
			return nil, err
		}
		if err := s.sync(); err != nil {
			return nil, err
		}
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	return s.recording(), nil
}
