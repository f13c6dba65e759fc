package crashtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	"github.com/anvilfs/anvilfs/tests/bar"
)

var lostGoal = bar.Goal{What: "distinct crash images of PFSs that are given up", Quick: 100, Test: 400, Nightly: 40_000}

const (
	third    = "GAMMA"
	lostName = "lost" // in -replay, for a workload
)

// A surrender is a volume with a PFS or two whose roots cannot be read. Others are
// used, these are deleted, their space is found, and their names used again.
type surrender struct {
	sizes []int64
	hurt  []hurt
	*recording
}

// A hurt is a root that is damaged.
type hurt struct {
	word    string // what it is deleted by: label or key
	key     uint64
	off     int64
	was, is []byte
}

// TestGiveUp cuts the deletion of PFSs whose roots cannot be read everywhere. What is
// left has the root and its state entry or neither; the same command ends it.
func TestGiveUp(t *testing.T) {
	e := &Explorer{Limit: 4}
	began := time.Now()
	shapes := slices.DeleteFunc(Shapes(), func(s Shape) bool { return s.Start != nil })
	most := map[bar.Depth]int{bar.Quick: 1, bar.Test: 2, bar.Nightly: 8}[bar.Of(t)]
	for n := *seed; e.Counts().Distinct < lostGoal.N(t) && !e.Done(); n++ {
		if d, ok := bar.Long(t); ok && e.Counts().Distinct >= lostGoal.Test {
			e.Deadline = began.Add(d)
		}
		shape := shapes[n%uint64(len(shapes))]
		t.Logf("%-30s %v", shape.Name, giveUpOn(t, e, shape, n, Job{Max: most}))
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
	if c := e.Counts(); !t.Failed() && bar.Of(t) > bar.Quick && (c.Again == 0 || c.Torn == 0) {
		t.Errorf("no second crash, or nothing torn: %v", c)
	}
	lostGoal.Check(t, e.Counts().Distinct)
}

func giveUpOn(t *testing.T, e *Explorer, shape Shape, seed uint64, j Job) Counts {
	t.Helper()
	g, err := newSurrender(t.Context(), shape, seed)
	if err != nil {
		t.Fatalf("%s, seed %d: %v", shape.Name, seed, err)
	}
	j.Name, j.Replay, j.Seed = fmt.Sprintf("lost PFSs on %s, seed %d", shape.Name, seed), fmt.Sprintf("%s,%s,%d,0", lostName, shape.Name, seed), seed
	return e.Explore(t.Context(), &g.Recording, j)
}

// TestReplayGiveUp shows one failure of TestGiveUp again.
func TestReplayGiveUp(t *testing.T) {
	part := strings.SplitN(*replay, ",", 5)
	if part[0] != lostName || len(part) < 5 {
		t.Skip("nothing to replay")
	}
	n, err := strconv.ParseUint(part[2], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	e := &Explorer{Limit: 4}
	if c := giveUpOn(t, e, shape(t, part[1]), n, Job{Only: part[4]}); c.Images == 0 && len(e.Failures()) == 0 {
		t.Error("there is no such image")
	}
	for _, f := range e.Failures() {
		t.Error(f)
	}
}

// newSurrender records what is done to a new volume of that shape.
func newSurrender(ctx context.Context, shape Shape, seed uint64) (*surrender, error) {
	img, err := shape.build(ctx)
	if err != nil {
		return nil, err
	}
	g := &surrender{sizes: shape.Sizes}
	if err := g.damage(ctx, img, seed); err != nil {
		return nil, fmt.Errorf("before anything is lost: %w", err)
	}
	s, err := openSession(ctx, NewTap(img, 0, g.sizes...), nil, seed, nil)
	if err != nil {
		return nil, err
	}
	s.tight = true
	if len(s.now.lost) != len(g.hurt) {
		return nil, fmt.Errorf("%d roots are lost, want %d", len(s.now.lost), len(g.hurt))
	}
	err = s.stepRewrite()
	for i := range g.hurt {
		if err == nil {
			err = errors.Join(s.giveUp(g.hurt[i].word), s.stepPromise(), s.stepRewrite())
		}
	}
	for _, step := range []func() error{s.settleThird, s.stepBulkfree, s.stepTwice, s.verify, s.close} {
		if err == nil {
			err = step()
		}
	}
	if err = errors.Join(err, s.tap.Misuse()); err != nil {
		return nil, fmt.Errorf("without any cut: %w", err)
	}
	return g.recorded(s), nil
}

// recorded is what the session did to the same volume.
func (g *surrender) recorded(s *session) *surrender {
	n := &surrender{sizes: g.sizes, hurt: g.hurt, recording: s.recording(g.sizes)}
	n.Judge, n.Recover = n.judge, n.again
	return n
}

// damage makes PFSs with everything that can be lost, and loses one or two of them.
func (g *surrender) damage(ctx context.Context, img *memdev.Device, seed uint64) error {
	s, err := openSession(ctx, nil, crashdev.Split(img, g.sizes...), seed, nil)
	if err != nil {
		return err
	}
	s.tight = true // all of it is wanted, however little space there is
	steps := []func() error{s.settle, s.settleThird, s.stepFiles, func() error {
		return s.txn("files of "+third, func(t *chain.Txn, m *volume) error {
			return s.apply(t, m, third, s.maker(m.trees[third]).files(6))
		})
	}, s.stepPromise, func() error {
		return s.txn("a snapshot", func(t *chain.Txn, m *volume) error { return s.snapshot(t, m, first) })
	}, s.stepFiles}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	labels := []string{third}
	if seed%2 == 0 {
		labels = append(labels, s.now.labels("SNAP")...)
	}
	for i, label := range labels {
		view, err := s.v.View(ctx, label)
		if err != nil {
			return err
		}
		root := view.Root()
		view.Release()
		h := hurt{word: label, key: root.Key, off: int64(root.Off()), was: make([]byte, 6), is: []byte("damage")}
		if seed/2%2 == uint64(i%2) {
			h.word = fmt.Sprintf("%016x", root.Key)
		}
		g.hurt = append(g.hurt, h)
	}
	if seed%4 == 0 {
		slices.Reverse(g.hurt)
	}
	if err := s.close(); err != nil {
		return err
	}
	for _, h := range g.hurt {
		if _, err := img.ReadAt(h.was, h.off); err != nil {
			return err
		}
		if _, err := img.WriteAt(h.is, h.off); err != nil {
			return err
		}
	}
	return img.Flush()
}

// settleThird makes that PFS, with a state entry, if it is not there.
func (s *session) settleThird() error {
	if s.now.trees[third] != nil {
		return nil
	}
	return s.txn("new "+third, func(t *chain.Txn, m *volume) error {
		meta := ondisk.NewInodeMeta(ondisk.InumRoot, ondisk.ObjDir)
		meta.Mode = 0o755
		tr := &tree{fsid: wordUUID(fmt.Sprint(third, s.seq)), t: s.tid(), leaves: map[leafKey]leaf{{inum: ondisk.InumRoot}: inodeLeaf(&meta, nil)}}
		m.trees[third] = tr
		if err := t.CreatePFS(s.ctx, chain.PFSSpec{Label: third, Fsid: tr.fsid, Clid: wordUUID("cluster " + third), T: tr.t, Meta: &meta}); err != nil {
			return err
		}
		return s.setState(t, m, third)
	})
}

// giveUp deletes what a word means. With the last lost root go the entries that are
// nobody's.
func (s *session) giveUp(word string) error {
	c := commit{Moment: Moment{What: "giving up " + word, Begun: s.events()}, before: s.flushes(), state: s.now.clone()}
	l, err := s.v.Lost(s.ctx, word)
	if err == nil && len(l.Keys) != 1 {
		err = fmt.Errorf("%d roots are meant", len(l.Keys))
	}
	if err == nil {
		err = s.v.GiveUp(s.ctx, l)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.What, err)
	}
	c.state.lost = slices.DeleteFunc(c.state.lost, func(key uint64) bool { return key == l.Keys[0] })
	if len(c.state.lost) == 0 {
		had := make(map[ondisk.UUID]bool)
		for _, t := range c.state.trees {
			had[t.fsid] = true
		}
		for fsid := range c.state.states {
			if !had[fsid] {
				delete(c.state.states, fsid)
			}
		}
	}
	c.Acked, c.upto, c.Digest = s.events(), s.flushes(), c.state.digest()
	s.now = c.state
	s.commits = append(s.commits, c)
	return nil
}

// finish types all that was to be done again, and goes on.
func (g *surrender) finish(s *session) error {
	for _, h := range g.hurt {
		if slices.Contains(s.now.lost, h.key) {
			if err := s.giveUp(h.word); err != nil {
				return err
			}
		}
		if l, err := s.v.Lost(s.ctx, h.word); err != nil || len(l.Keys) > 0 {
			return fmt.Errorf("%s is given up, and %x is still lost (%w)", h.word, l.Keys, err)
		}
	}
	if err := errors.Join(s.settleThird(), s.probe()); err != nil {
		return err
	}
	if _, err := s.v.Bulkfree(s.ctx, chain.BulkfreeOptions{}); err != nil {
		return fmt.Errorf("looking for space: %w", err)
	}
	return s.verify()
}

// healed is a copy of an image in which roots are whole again that are where they
// were: with these, there is nothing wrong with what a cut left.
func (g *surrender) healed(img *memdev.Device) (*memdev.Device, error) {
	c := img.Clone()
	for _, h := range g.hurt {
		b := make([]byte, len(h.is))
		if _, err := c.ReadAt(b, h.off); err != nil {
			return nil, err
		}
		if !bytes.Equal(b, h.is) {
			continue // the place is used again
		}
		if _, err := c.WriteAt(h.was, h.off); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// judge opens an image, which it changes, and gives up what is lost.
func (g *surrender) judge(ctx context.Context, img *memdev.Device, want []int) (uint64, error) {
	whole, err := g.healed(img)
	if err == nil {
		err = checkStructure(whole, g.sizes)
	}
	if err != nil {
		return 0, fmt.Errorf("as it was left: %w", err)
	}
	devs := crashdev.Split(img, g.sizes...)
	found, err := fsck.Check(ctx, devs, fsck.Options{Workers: 1})
	if err != nil {
		return 0, err
	}
	v, is, got, err := stateOf(ctx, devs, g.after(want))
	if err == nil {
		err = onlyLost(found, len(got.lost))
	}
	if err != nil {
		return 0, err
	}
	s := resume(ctx, devs, v, is.Digest, is.state)
	if err := g.finish(s); err != nil {
		return 0, fmt.Errorf("going on from %q: %w", is.What, err)
	}
	if found, err = fsck.Check(ctx, devs, fsck.Options{Workers: 1}); err == nil {
		err = onlyLost(found, 0)
	}
	if whole, herr := g.healed(img); err == nil {
		err = errors.Join(herr, check(ctx, whole, g.sizes))
	}
	if err != nil {
		return 0, fmt.Errorf("after going on from %q: %w", is.What, err)
	}
	return is.Digest, nil
}

// onlyLost demands that fsck finds so many roots, and nothing else.
func onlyLost(r *fsck.Report, roots int) error {
	var list []string
	for _, f := range r.Findings {
		if f.Severity > fsck.Info {
			list = append(list, fmt.Sprint(f))
		}
	}
	if len(list) != roots {
		return fmt.Errorf("fsck: of %d roots that are lost it says: %q", roots, list)
	}
	return nil
}

// again ends under a tap what an image was left in.
func (g *surrender) again(ctx context.Context, img *memdev.Device, from int, salt uint64) (*Recording, error) {
	s, err := openSession(ctx, NewTap(img, 0, g.sizes...), nil, salt, g.commits[from].state)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(g.finish(s), s.close(), s.tap.Misuse()); err != nil {
		return nil, err
	}
	rec := g.recorded(s)
	rec.Recover = nil // one crash in recovery is enough
	return &rec.Recording, nil
}
