package crashtest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Workload is a random mixture of steps.
type Workload struct {
	Name  string
	Steps int
	Roomy bool // needs more space than tight shapes have
	mix   []weighted
}

type weighted struct {
	weight int
	step   func(*session) error
}

// Workloads lists what is tried.
func Workloads() []Workload {
	return []Workload{
		{"files", 14, false, []weighted{{12, (*session).stepFiles}, {2, (*session).stepPromise}, {1, (*session).stepReopen}}},
		{"two-pfs", 12, false, []weighted{{3, (*session).stepFiles}, {4, (*session).stepBoth}, {2, (*session).stepPromise}}},
		{"promises", 12, false, []weighted{{2, (*session).stepFiles}, {4, (*session).stepPromise}, {1, (*session).stepReopen}}},
		{"snapshots", 14, false, []weighted{{5, (*session).stepFiles}, {3, (*session).stepRewrite}, {3, (*session).stepSnapshot},
			{2, (*session).stepForgetSnapshot}, {2, (*session).stepTwice}}},
		{"resync", 20, false, []weighted{{3, (*session).stepFiles}, {2, (*session).stepShadow}, {3, (*session).stepShadowFiles},
			{3, (*session).stepSwap}, {4, (*session).stepRewrite}, {1, (*session).stepSnapshot}, {1, (*session).stepReopen}, {1, (*session).stepResync}}},
		{"rollback", 12, false, []weighted{{4, (*session).stepFiles}, {3, (*session).stepRewrite}, {3, (*session).stepSnapshot},
			{3, (*session).stepRollback}, {1, (*session).stepForgetSnapshot}, {1, (*session).stepReopen}}},
		{"wrap", 24, false, []weighted{{4, (*session).stepRewrite}, {1, (*session).stepFiles}, {1, (*session).stepPromise}}},
		{"bulkfree", 10, true, []weighted{{5, (*session).stepFiles}, {3, (*session).stepRewrite}, {2, (*session).stepBulkfree},
			{1, (*session).stepSnapshot}, {1, (*session).stepForgetSnapshot}, {1, (*session).stepHold}, {1, (*session).stepTrim}}},
		{"reuse", 50, false, []weighted{{16, (*session).stepRewrite}, {4, (*session).stepFiles}, {2, (*session).stepAbort},
			{2, (*session).stepHold}, {1, (*session).stepDrain}, {2, (*session).stepPromise}, {2, (*session).stepTwice}, {1, (*session).stepReopen}, {3, (*session).stepTrim}}},
		{"sharing", 20, false, []weighted{{4, (*session).stepShare}, {4, (*session).stepRewrite}, {2, (*session).stepFiles}, {1, (*session).stepSnapshot},
			{1, (*session).stepForgetSnapshot}, {1, (*session).stepTwice}, {1, (*session).stepAbort}, {1, (*session).stepReopen}, {1, (*session).stepBulkfree}}},
		{"restoring", 20, false, []weighted{{5, (*session).stepRestore}, {4, (*session).stepRewrite}, {3, (*session).stepFiles}, {3, (*session).stepSnapshot},
			{3, (*session).stepForgetSnapshot}, {1, (*session).stepTwice}, {1, (*session).stepReopen}, {1, (*session).stepRollback}, {1, (*session).stepBulkfree}}},
		{"log", 20, true, []weighted{{14, (*session).stepLog}, {2, (*session).stepFiles}, {2, (*session).stepPromise}, {1, (*session).stepCheckpoint},
			{1, (*session).stepDrain}, {1, (*session).stepSnapshot}, {1, (*session).stepRewrite}, {1, (*session).stepReopen}, {1, (*session).stepAbort}}},
		{"log-killed", 16, true, []weighted{{9, (*session).stepLog}, {4, (*session).stepKill}, {1, (*session).stepGiveUp}, {1, (*session).stepFiles}, {1, (*session).stepPromise}, {1, (*session).stepSnapshot}}},
		{"grow-log", 12, false, []weighted{{6, (*session).stepLog}, {2, (*session).stepKillAndGrow}, {2, (*session).stepGrowInPlace}, {1, (*session).stepKill}, {1, (*session).stepFiles}}},
		{"log-bulkfree", 14, true, []weighted{{8, (*session).stepLog}, {2, (*session).stepRewrite}, {2, (*session).stepBulkfree}, {1, (*session).stepTrim}, {1, (*session).stepHold}}},
		{"large", 5, true, []weighted{{2, (*session).stepLarge}, {2, (*session).stepFiles}, {1, (*session).stepLargeAbort}}},
		{"grow", 14, false, []weighted{{4, (*session).stepFiles}, {4, (*session).stepRewrite}, {3, (*session).stepGrow}, {1, (*session).stepPromise}}},
	}
}

// foreignWorkload is for volumes that somebody else wrote.
func foreignWorkload() Workload {
	return Workload{"foreign", 8, true, []weighted{{6, (*session).stepAny}, {1, (*session).stepSnapshot}, {1, (*session).stepReopen}, {1, (*session).stepBulkfree}}}
}

// growWorkloads are growth and a first use of the space.
func growWorkloads() []Workload {
	return []Workload{
		{"growth", 1, false, []weighted{{1, (*session).stepGrowAndUse}}},
		{"growth-in-use", 1, false, []weighted{{1, (*session).stepGrowInUse}}},
	}
}

func (s *session) run(w Workload) error {
	total := 0
	for _, m := range w.mix {
		total += m.weight
	}
	if err := s.stepFiles(); err != nil {
		return err
	}
	for range w.Steps {
		n := s.rnd.IntN(total)
		for _, m := range w.mix {
			if n -= m.weight; n < 0 {
				if err := m.step(s); err != nil {
					return err
				}
				break
			}
		}
	}
	if err := s.verify(); err != nil {
		return err
	}
	return s.close()
}

func (s *session) oneOf(labels []string) string { return labels[s.rnd.IntN(len(labels))] }

// stepFiles is a transaction of one batch on one PFS.
func (s *session) stepFiles() error {
	label := s.oneOf([]string{first, first, second})
	return s.txn("files of "+label, func(t *chain.Txn, m *volume) error {
		return s.apply(t, m, label, s.maker(m.trees[label]).files(1+s.rnd.IntN(6)))
	})
}

// stepAny is stepFiles on any PFS, also on what somebody else made.
func (s *session) stepAny() error {
	label := s.oneOf(s.now.labels(""))
	return s.txn("files of "+label, func(t *chain.Txn, m *volume) error {
		return s.apply(t, m, label, s.maker(m.trees[label]).files(1+s.rnd.IntN(6)))
	})
}

// stepBoth changes two PFSs in one transaction.
func (s *session) stepBoth() error {
	return s.txn("both PFSs", func(t *chain.Txn, m *volume) error {
		if err := s.apply(t, m, first, s.maker(m.trees[first]).files(1+s.rnd.IntN(3))); err != nil {
			return err
		}
		return s.apply(t, m, second, s.maker(m.trees[second]).files(1+s.rnd.IntN(3)))
	})
}

// stepTwice applies several batches to a PFS in one transaction, a snapshot
// between them now and then.
func (s *session) stepTwice() error {
	return s.txn("several batches", func(t *chain.Txn, m *volume) error {
		for i := range 2 + s.rnd.IntN(2) {
			if i == 1 && s.rnd.IntN(2) == 0 {
				if err := s.snapshot(t, m, first); err != nil {
					return err
				}
			}
			if err := s.apply(t, m, first, s.maker(m.trees[first]).rewrite(4)); err != nil {
				return err
			}
		}
		return nil
	})
}

// stepRewrite replaces data in place, as databases do: old blocks become free.
func (s *session) stepRewrite() error {
	return s.txn("rewriting", func(t *chain.Txn, m *volume) error {
		return s.apply(t, m, first, s.maker(m.trees[first]).rewrite(1+s.rnd.IntN(6)))
	})
}

// stepPromise changes nothing but a state entry. It needs no space.
func (s *session) stepPromise() error {
	label, aborted := s.oneOf([]string{first, second}), s.aborted
	err := s.txn("promise of "+label, func(t *chain.Txn, m *volume) error {
		fsid := m.trees[label].fsid
		e := m.states[fsid]
		e.Fsid, e.T = fsid, m.trees[label].t
		e.PromisedEpoch++
		e.Candidate = s.rnd.Uint64()
		m.states[fsid] = e
		return t.SetState(e)
	})
	if err == nil && s.aborted > aborted {
		err = fmt.Errorf("a promise of %s: %w", label, chain.ErrNoSpace)
	}
	return err
}

// stepAbort fills a transaction and drops it.
func (s *session) stepAbort() error {
	return s.txn("aborted", func(t *chain.Txn, m *volume) error {
		if err := s.apply(t, m, first, s.maker(m.trees[first]).rewrite(5)); err != nil {
			return err
		}
		return errGiveUp
	})
}

// stepLarge writes more than waits for a commit.
func (s *session) stepLarge() error {
	return s.txn("large", func(t *chain.Txn, m *volume) error {
		if err := s.apply(t, m, first, s.maker(m.trees[first]).mass(190)); err != nil {
			return err
		}
		// What was written early is dropped again, and its space may go on.
		if err := s.apply(t, m, first, s.maker(m.trees[first]).rewrite(30)); err != nil {
			return err
		}
		return s.apply(t, m, first, s.maker(m.trees[first]).files(3))
	})
}

func (s *session) stepLargeAbort() error {
	return s.txn("large, aborted", func(t *chain.Txn, m *volume) error {
		if err := s.apply(t, m, first, s.maker(m.trees[first]).mass(190)); err != nil {
			return err
		}
		return errGiveUp
	})
}

func (s *session) stepReopen() error {
	if err := s.close(); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	return s.open()
}

func (s *session) stepDrain() error { return s.v.DrainFrees(s.ctx) }

// stepBulkfree looks for space, while a transaction goes on now and then: it
// begins when the first pass has begun to read.
func (s *session) stepBulkfree() error {
	var inner error
	if s.tap != nil && s.rnd.IntN(2) == 0 {
		s.tap.AtRead(func() { inner = s.stepRewrite() })
		defer s.tap.AtRead(nil)
	}
	_, err := s.v.Bulkfree(s.ctx, chain.BulkfreeOptions{})
	return errors.Join(err, inner)
}

// trimWindow bounds what a trim throws away: enough to meet what is dropped
// and used again, at the begin of the space.
const trimWindow = 512 << 10

// stepTrim throws free space away, as a device does that is told of it.
func (s *session) stepTrim() error {
	beg := uint64(ondisk.ReservedSize) + uint64(s.rnd.IntN(16))*trimWindow/4
	_, err := s.v.Trim(s.ctx, chain.TrimOptions{Beg: beg, End: beg + trimWindow})
	return err
}

// stepHold keeps a view open over the next steps, or ends one.
func (s *session) stepHold() error {
	if s.held != nil {
		return s.release()
	}
	if err := s.v.Checkpoint(s.ctx); err != nil {
		return err
	}
	view, err := s.v.View(s.ctx, first)
	if err == nil {
		s.held = &heldView{view, s.now.trees[first]}
	}
	return err
}

// snapshot makes one inside a transaction.
func (s *session) snapshot(t *chain.Txn, m *volume, src string) error {
	s.names++
	label := fmt.Sprintf("SNAP%d", s.names)
	return s.copyPFS(t, m, src, label, chain.SnapSpec{})
}

func (s *session) copyPFS(t *chain.Txn, m *volume, src, dst string, spec chain.SnapSpec) error {
	from := m.trees[src]
	spec.Fsid, spec.Clid = wordUUID(dst), snapshotClid(dst)
	if !spec.Shadow {
		spec.Fsid = chain.SnapshotFsid(spec.Clid, from.fsid) // as operations of a cluster do
	}
	if err := t.Snapshot(s.ctx, src, dst, spec); err != nil {
		return err
	}
	m.trees[dst] = &tree{fsid: spec.Fsid, t: from.t, leaves: from.leaves, of: src}
	return nil
}

func (s *session) stepSnapshot() error {
	if len(s.now.labels("SNAP")) > 4 {
		return s.stepForgetSnapshot()
	}
	label := s.oneOf([]string{first, second})
	return s.txn("snapshot of "+label, func(t *chain.Txn, m *volume) error { return s.snapshot(t, m, label) })
}

func (s *session) stepForgetSnapshot() error {
	snaps := s.now.labels("SNAP")
	if len(snaps) == 0 {
		return s.stepFiles()
	}
	label := s.oneOf(snaps)
	return s.txn("deleting "+label, func(t *chain.Txn, m *volume) error {
		delete(m.trees, label)
		return t.DeletePFS(s.ctx, label)
	})
}

const shadow = ".shadow"

// stepShadow makes the second root that a resync works on.
func (s *session) stepShadow() error {
	if s.now.trees[shadow] != nil {
		return s.stepShadowFiles()
	}
	return s.txn("shadow", func(t *chain.Txn, m *volume) error {
		return s.copyPFS(t, m, first, shadow, chain.SnapSpec{Shadow: true})
	})
}

func (s *session) stepShadowFiles() error {
	if s.now.trees[shadow] == nil {
		return s.stepFiles()
	}
	return s.txn("files of the shadow", func(t *chain.Txn, m *volume) error {
		b := s.maker(m.trees[shadow]).files(1 + s.rnd.IntN(5))
		m.trees[shadow] = m.trees[shadow].apply(b, m.trees)
		return t.Apply(s.ctx, shadow, b)
	})
}

// stepSwap makes the shadow the PFS.
func (s *session) stepSwap() error {
	if s.now.trees[shadow] == nil {
		return s.stepShadow()
	}
	return s.txn("swap", s.swap)
}

func (s *session) swap(t *chain.Txn, m *volume) error {
	if err := t.SwapRoot(s.ctx, first, shadow); err != nil {
		return err
	}
	from := m.trees[shadow]
	m.trees[first] = &tree{fsid: m.trees[first].fsid, t: from.t, leaves: from.leaves}
	delete(m.trees, shadow)
	return s.setState(t, m, first)
}

// stepRollback gives the PFS the content that a snapshot of it has.
func (s *session) stepRollback() error {
	var snaps []string
	for _, label := range s.now.labels("SNAP") {
		if s.now.trees[label].of == first {
			snaps = append(snaps, label)
		}
	}
	if len(snaps) == 0 || s.now.trees[shadow] != nil {
		return s.txn("snapshot of "+first, func(t *chain.Txn, m *volume) error { return s.snapshot(t, m, first) })
	}
	label := s.oneOf(snaps)
	return s.txn("rollback to "+label, func(t *chain.Txn, m *volume) error {
		if err := s.copyPFS(t, m, label, shadow, chain.SnapSpec{Shadow: true}); err != nil {
			return err
		}
		return s.swap(t, m)
	})
}

// matched looks up whether entries and roots agree.
func (v *volume) matched() error {
	for label, t := range v.trees {
		if e, ok := v.states[t.fsid]; ok && e.T != t.t {
			return fmt.Errorf("PFS %s is at %v, its state entry at %v", label, t.t, e.T)
		}
	}
	return nil
}

// fits reports whether the workload has room on a shape. Volumes that have room
// to grow are for the one that makes them.
func (w *Workload) fits(s Shape) bool {
	return (!w.Roomy || s.Free == 0) && strings.HasPrefix(w.Name, "grow") == (s.Start != nil)
}

// stepResync is a whole one, with a snapshot before it and use after it: what
// snapshot and PFS share must stay although the PFS's root is another.
func (s *session) stepResync() error {
	steps := []func() error{s.stepSnapshot, s.stepShadow, s.stepShadowFiles, s.stepSwap}
	for range 8 {
		steps = append(steps, s.stepRewrite)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
