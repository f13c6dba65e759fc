package crash

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/fs/repair"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var goalRepair = bar.Goal{What: "distinct crash images of names and inodes being put right", Quick: 10, Test: 60, Nightly: 4000}

// A tidying is a filesystem whose names and inodes are wrong in many ways, and a
// repair that puts them right.
type tidying struct {
	seed  uint64
	ticks int64
	good  []string // what is there when nothing cut it
}

// Phases of a tidying.
const (
	phaseWrong = iota
	phaseRight
)

// TestRepair cuts what fsck --repair does to names and inodes. Whatever is left,
// a repair that is begun again ends where one that was not cut does: so nothing
// is lost that was right, and what had lost its name has one.
func TestRepair(t *testing.T) { cutRounds(t, goalRepair, repairRound) }

func repairRound(t *testing.T, e *crashtest.Explorer, seed uint64, only string) {
	t.Helper()
	c := &tidying{seed: seed}
	most := 1
	if bar.Of(t) == bar.Nightly {
		most = 3
	}
	cutStory(t, e, "repair", seed, most, only, c.record)
}

// TestReplayRepair shows one failure of TestRepair again.
func TestReplayRepair(t *testing.T) { replayRound(t, "repair", repairRound) }

// shape is of three members, or of one.
func (c *tidying) shape() Shape { return Shapes()[[]int{0, 2}[c.seed%2]] }

func (c *tidying) session(ctx context.Context, tap *crashtest.Tap, devs []ondisk.Device) *session {
	s := newSession(ctx, c.shape(), tap, devs, c.seed)
	s.ticks.Store(c.ticks)
	s.spoilt = true
	return s
}

// build makes a filesystem and spoils it.
func (c *tidying) build(ctx context.Context) (*memdev.Device, error) {
	img, err := c.shape().build(ctx)
	if err != nil {
		return nil, err
	}
	s := c.session(ctx, nil, crashdev.Split(img, c.shape().sizes()...))
	err = s.start()
	for range 2 {
		s.base = fmt.Sprintf("w%d", len(s.moments))
		if err == nil {
			err = errors.Join(s.call(call{"setup", callSetup}), s.sync())
		}
	}
	m := s.m
	if err = errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	c.ticks = s.ticks.Load()
	if err := s.openPool(); err != nil {
		return nil, err
	}
	store := fs.OnPool(s.pool)
	t, err := store.Begin(ctx, fs.Cost{Leaves: 100})
	if err == nil {
		err = spoil(ctx, store, t, m)
		t.End()
	}
	return img, errors.Join(err, s.pool.Sync(ctx), s.close())
}

// openPool opens a filesystem that is not mounted, as fsck --repair does.
func (s *session) openPool() error {
	ctx, cancel := s.bounded()
	defer cancel()
	p, err := cluster.OpenPool(ctx, s.shape.specs(s.devs), cluster.Options{Label: label, Commit: time.Hour, OnNoQuorum: cluster.EIO})
	if err != nil {
		return err
	}
	s.pool, s.f = p, nil
	return s.mend()
}

// spoil makes one of each kind of wrong. Files of w1 lose names, counts and types;
// those of w2 are what must stay as it is.
func spoil(ctx context.Context, store fs.Store, t fs.Txn, m *model) error {
	w1, _ := m.find("w1")
	at := func(path string) uint64 { inum, _ := m.find("w1/" + path); return inum }
	put := func(inum uint64, edit func(*ondisk.InodeMeta)) error {
		rec, ok, err := store.Inode(ctx, inum)
		if err != nil || !ok {
			return fmt.Errorf("inode %d: %v, %w", inum, ok, err)
		}
		next := *rec
		edit(&next.Meta)
		t.PutInode(&next)
		return nil
	}
	fresh := func(typ ondisk.ObjType, links, parent uint64) uint64 {
		meta := ondisk.NewInodeMeta(t.NewInum(), typ)
		meta.Mode, meta.Nlinks, meta.Iparent = 0o640, links, parent
		t.PutInode(&fs.Record{Meta: meta})
		return meta.Inum
	}
	lost := fresh(ondisk.ObjDir, 1, ondisk.InumRoot)
	inside := fresh(ondisk.ObjFile, 1, lost)
	fresh(ondisk.ObjFile, 0, ondisk.InumRoot) // nobody has it open any more
	return errors.Join(
		t.RemoveDirent(w1, "a"), // its content is to be found in lost+found
		t.AddDirent(lost, "inside", inside, ondisk.ObjFile),
		t.AddDirent(w1, "gone", 1<<40, ondisk.ObjFile),
		t.AddDirent(w1, "own", ondisk.InumCluster, ondisk.ObjFile),
		t.AddDirent(at("e"), "second", at("d/c"), ondisk.ObjFile),
		t.ReplaceDirent(w1, "h", at("d/c"), ondisk.ObjFIFO),
		put(at("b"), func(m *ondisk.InodeMeta) { m.Nlinks = 7 }),
		put(at("e"), func(m *ondisk.InodeMeta) { m.Iparent = at("b") }))
}

// record repairs the filesystem under a tap.
func (c *tidying) record(ctx context.Context) (*crashtest.Recording, error) {
	img, err := c.build(ctx)
	if err != nil {
		return nil, fmt.Errorf("before it is repaired: %w", err)
	}
	s := c.session(ctx, c.shape().newTap(img, c.seed), nil)
	made, err := s.repair()
	if err == nil && made < 9 {
		err = fmt.Errorf("%d places were put right", made)
	}
	acked := s.events()
	if err == nil {
		c.good, err = s.tidy()
	}
	if err = errors.Join(err, s.close(), s.tap.Misuse()); err != nil {
		return nil, fmt.Errorf("without any cut: %w", err)
	}
	moments := []crashtest.Moment{{What: "wrong", Digest: phaseWrong}, {What: "right", Acked: acked, Digest: phaseRight}}
	return &crashtest.Recording{Tap: s.tap, Moments: moments, Judge: c.judge}, nil
}

// repair does so until nothing is wrong, some of it in a commit of its own, and
// says how much was.
func (s *session) repair() (made int, err error) {
	const rounds = 5
	for range rounds {
		if err := errors.Join(s.openPool(), s.close()); err != nil {
			return made, err
		}
		rep, err := fsck.Check(s.ctx, s.shape.volume(s.devs, 0), fsck.Options{SkipData: true})
		if err != nil || len(rep.Fixes) == 0 {
			return made, err
		}
		if err := s.openPool(); err != nil {
			return made, err
		}
		var synced error
		err = repair.Apply(s.ctx, fs.OnPool(s.pool), rep.Fixes, time.Unix(1e9, 0), func(fsck.Fix) {
			if made++; s.rnd.IntN(3) == 0 {
				synced = errors.Join(synced, s.pool.Sync(s.ctx))
			}
		})
		if err = errors.Join(err, synced, s.pool.Sync(s.ctx), s.close()); err != nil {
			return made, err
		}
	}
	return made, errors.New("there is always more to put right")
}

// tidy is what is there when all is right, and nobody has anything to say.
func (s *session) tidy() ([]string, error) {
	if err := s.mountAny(); err != nil {
		return nil, err
	}
	d, err := s.dump()
	if err == nil {
		err = s.mend()
	}
	s.noteLevel()
	if err = errors.Join(err, s.close()); err != nil {
		return nil, err
	}
	return d.short, s.inspect()
}

// judge opens an image and repairs it.
func (c *tidying) judge(ctx context.Context, img *memdev.Device, want []int) (uint64, error) {
	s := c.session(ctx, nil, crashdev.Split(img, c.shape().sizes()...))
	for i, d := range s.devs {
		if err := crashtest.CheckStructure(d); err != nil {
			return 0, fmt.Errorf("member %d as it was left: %w", i, err)
		}
	}
	made, err := s.repair()
	if err != nil {
		return 0, errors.Join(err, s.close())
	}
	phase := phaseWrong
	if made == 0 {
		phase = phaseRight
	}
	if phase < want[0] {
		return 0, fmt.Errorf("it was said to be right, and %d places are not", made)
	}
	left, err := s.tidy()
	if err == nil {
		if diff := differ(c.good, left); diff != "" {
			err = fmt.Errorf("not what it is without a cut: %s", diff)
		}
	}
	if err != nil {
		return 0, errors.Join(err, s.close())
	}
	if err := s.mountAny(); err != nil {
		return 0, err
	}
	if _, err := s.probe(); err != nil {
		return 0, fmt.Errorf("going on: %w", errors.Join(err, s.close()))
	}
	return uint64(phase), s.close()
}
