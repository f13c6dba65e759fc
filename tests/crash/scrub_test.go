package crash

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	"github.com/anvilfs/anvilfs/sync/scrub"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var goalScrub = bar.Goal{What: "distinct crash images of scrubs that repair", Quick: 10, Test: 40, Nightly: 4000}

// A mending is a cluster whose copies are bad in several ways, and a scrub that
// makes them good.
type mending struct {
	seed  uint64
	ticks int64
	good  *dump // what a majority has
}

// Phases of a mending.
const (
	phaseBad = iota
	phaseMended
)

// TestScrub cuts a scrub that repairs blocks and overwrites minorities. What is
// left opens, another scrub makes all of it good, and what one has reported as
// mended is.
func TestScrub(t *testing.T) { cutRounds(t, goalScrub, scrubRound) }

func scrubRound(t *testing.T, e *crashtest.Explorer, seed uint64, only string) {
	t.Helper()
	c := &mending{seed: seed}
	cutStory(t, e, "scrub", seed, 3, only, c.record)
}

// TestReplayScrub shows one failure of TestScrub again.
func TestReplayScrub(t *testing.T) { replayRound(t, "scrub", scrubRound) }

func (c *mending) shape() Shape { return Shapes()[2] }

func (c *mending) session(ctx context.Context, tap *crashtest.Tap, devs []ondisk.Device) *session {
	s := newSession(ctx, c.shape(), tap, devs, c.seed)
	s.ticks.Store(c.ticks)
	return s
}

// build makes a cluster with bad copies.
func (c *mending) build(ctx context.Context) (*memdev.Device, error) {
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
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	if c.good, err = s.dump(); err != nil {
		return nil, err
	}
	var inums []uint64
	for _, path := range []string{"w1/a", "w1/d/c", "w2/a", "w2/d/c", "w1/b"} {
		inum, ok := s.m.find(path)
		if !ok {
			return nil, fmt.Errorf("%s is not there", path)
		}
		inums = append(inums, inum)
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	c.ticks = s.ticks.Load()
	return img, errors.Join(
		lose(ctx, s.devs[0], inums[0], inums[2]), // the member that all are compared with
		lose(ctx, s.devs[2], inums[1], inums[3]),
		rename(ctx, s.devs[2], inums[4]),
		rot(ctx, s.devs[1], inums[3]))
}

// lose makes a block of a file what it would be if a write had gone to another
// file: intact, and not what the others have.
func lose(ctx context.Context, d ondisk.Device, inum, from uint64) error {
	return alter(ctx, d, func(v *chain.View) (chain.Change, error) {
		own, ok, err := cluster.Leaf{Inum: inum, Kind: ondisk.TypeData}.Fetch(ctx, v)
		if err != nil || !ok {
			return own, fmt.Errorf("a block to lose: %v, %w", ok, err)
		}
		other, ok, err := cluster.Leaf{Inum: from, Kind: ondisk.TypeData}.Fetch(ctx, v)
		if err != nil || !ok {
			return own, fmt.Errorf("another block: %v, %w", ok, err)
		}
		other.Inum, other.ModifyTid = own.Inum, own.ModifyTid
		return other, nil
	})
}

// rename gives an inode another mode, as if a change had not arrived.
func rename(ctx context.Context, d ondisk.Device, inum uint64) error {
	return alter(ctx, d, func(v *chain.View) (chain.Change, error) {
		rec, ok, err := v.Inode(ctx, inum)
		if err != nil || !ok {
			return chain.Change{}, fmt.Errorf("an inode to change: %v, %w", ok, err)
		}
		meta := rec.SharedMeta()
		meta.Mode ^= 0o111
		return chain.Change{Inum: inum, Kind: chain.KindInode, Inode: &meta, Inline: rec.Inline, ModifyTid: rec.Ref.ModifyTid}, nil
	})
}

// alter makes one change of a member that the others do not have.
func alter(ctx context.Context, d ondisk.Device, change func(*chain.View) (chain.Change, error)) error {
	v, err := chain.Open(ctx, []ondisk.Device{d}, chain.Options{})
	if err != nil {
		return err
	}
	err = func() error {
		t, err := v.Begin(ctx)
		if err != nil {
			return err
		}
		view, err := t.View(ctx, label)
		if err != nil {
			return err
		}
		c, err := change(view)
		at := view.T()
		view.Release()
		if err == nil {
			err = t.Apply(ctx, label, &chain.Batch{T: at, Changes: []chain.Change{c}})
		}
		if err != nil {
			t.Abort()
			return err
		}
		return t.Commit(ctx)
	}()
	return errors.Join(err, v.Close())
}

// rot flips a bit of the first block of a file.
func rot(ctx context.Context, d ondisk.Device, inum uint64) error {
	v, err := chain.Open(ctx, []ondisk.Device{d}, chain.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	off := int64(0)
	view, err := v.View(ctx, label)
	if err == nil {
		err = view.DataRefs(ctx, inum, 0, 1, func(ref *ondisk.Blockref) bool { off = int64(ref.Off()); return false })
		view.Release()
	}
	if err = errors.Join(err, v.Close()); err != nil || off == 0 {
		return fmt.Errorf("a block to damage, at %d: %w", off, err)
	}
	b := make([]byte, 512)
	if _, err := d.ReadAt(b, off); err != nil {
		return err
	}
	b[100] ^= 0x10
	_, err = d.WriteAt(b, off)
	return errors.Join(err, d.Flush())
}

// record scrubs the cluster under a tap.
func (c *mending) record(ctx context.Context) (*crashtest.Recording, error) {
	img, err := c.build(ctx)
	if err != nil {
		return nil, fmt.Errorf("before it is scrubbed: %w", err)
	}
	s := c.session(ctx, c.shape().newTap(img, c.seed), nil)
	if err := s.mountAny(); err != nil {
		return nil, err
	}
	begun := s.events()
	rep, err := s.scrub()
	if err == nil && (rep.Bad != 1 || rep.Differing != 3 || rep.Repaired != 4 || rep.Unrepaired != 0) {
		err = fmt.Errorf("the scrub was to find four places and mend them: %+v", rep)
	}
	acked := s.events()
	if err = errors.Join(err, s.close(), s.tap.Misuse()); err != nil {
		return nil, fmt.Errorf("without any cut: %w", err)
	}
	moments := []crashtest.Moment{{What: "bad", Digest: phaseBad}, {What: "mended", Begun: begun, Acked: acked, Digest: phaseMended}}
	return &crashtest.Recording{Tap: s.tap, Moments: moments, Judge: c.judge}, nil
}

// scrub runs one to its end.
func (s *session) scrub() (scrub.Report, error) {
	if err := s.mend(); err != nil {
		return scrub.Report{}, err
	}
	m := scrub.NewManager(s.pool, scrub.Options{})
	if err := m.Start(0); err != nil {
		return scrub.Report{}, err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	work, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { m.Run(work); close(done) }()
	for ctx.Err() == nil {
		if p := m.Report().Phase; p != scrub.Verifying && p != scrub.Comparing {
			break
		}
		<-time.After(100 * time.Microsecond)
	}
	stop()
	<-done
	rep := m.Report()
	if rep.Phase != scrub.Done {
		return rep, fmt.Errorf("the scrub did not end: %+v", rep)
	}
	return rep, nil
}

// judge opens an image and scrubs it.
func (c *mending) judge(ctx context.Context, img *memdev.Device, want []int) (uint64, error) {
	s := c.session(ctx, nil, crashdev.Split(img, c.shape().sizes()...))
	phase, err := s.mended(c.good, want[0])
	if err = errors.Join(err, s.close()); err == nil {
		err = s.inspect()
	}
	return phase, err
}

// mended demands that no copy is lost: what one scrub makes good, a second one
// and a reader find good.
func (s *session) mended(good *dump, least int) (phase uint64, err error) {
	if err := s.mountAny(); err != nil {
		return 0, err
	}
	rep, err := s.scrub()
	if err != nil {
		return 0, err
	}
	if rep.Unrepaired > 0 || rep.Bad > 1 || rep.Differing > 3 {
		return 0, fmt.Errorf("more is bad than before the scrub, or cannot be mended: %+v", rep)
	}
	if rep.Bad+rep.Differing == 0 {
		phase = phaseMended
	}
	if int(phase) < least {
		return 0, fmt.Errorf("it was said to be mended, and is not: %+v", rep)
	}
	if rep, err = s.scrub(); err == nil && rep.Bad+rep.Differing > 0 {
		err = fmt.Errorf("another scrub finds: %+v", rep)
	}
	if err != nil {
		return 0, err
	}
	if err := s.reads(good); err != nil {
		return 0, err
	}
	if _, err := s.probe(); err != nil {
		return 0, fmt.Errorf("going on: %w", err)
	}
	s.noteLevel()
	return phase, nil
}

// reads waits until readers have the trees that a scrub mended.
func (s *session) reads(good *dump) error {
	ctx, cancel := s.bounded()
	defer cancel()
	for {
		changed := s.pool.Changed()
		d, err := s.dump()
		if err != nil {
			return fmt.Errorf("reading it: %w", err)
		}
		diff := differ(good.full, d.full)
		if diff == "" {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("not what the majority had: %s", diff)
		}
	}
}
