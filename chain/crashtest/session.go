package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A session is a volume in use, with the model of what it should hold.
type session struct {
	ctx   context.Context
	tap   *Tap // nil: nothing is recorded
	devs  []ondisk.Device
	spare []ondisk.Device // that are no part of it yet
	v     *chain.Volume
	rnd   *rand.Rand
	pool  []*ondisk.EncodedBlock
	tight bool // space is scarce, and the reserve is all there is

	now     *volume // as committed
	commits []commit
	seq     uint32 // of the last tid
	inum    uint64 // of the last inode
	names   int
	held    *heldView
	aborted int // transactions that found no space
	logged  int // txgs that went into the intent log

	restored int // blocks that were taken out of snapshots
}

// A commit is a transaction of a recording, begun at Begin and acknowledged
// when Commit returned. The state before the first is a commit too.
type commit struct {
	Moment
	before, upto int  // flushes asked for at these times
	foreign      bool // left by somebody else
	state        *volume
}

// A heldView is a view that stays open while its PFS goes on.
type heldView struct {
	view *chain.View
	want *tree
}

// openSession opens devices, those of tap if it is not nil. If now is nil, the
// model is what the volume holds. Numbers go on behind those in use.
func openSession(ctx context.Context, tap *Tap, devs []ondisk.Device, seed uint64, now *volume) (*session, error) {
	var spare []ondisk.Device
	if tap != nil {
		devs, spare = tap.split()
	}
	s := newSession(ctx, devs, seed)
	s.spare = spare
	s.tap = tap
	if err := s.open(); err != nil {
		return nil, err
	}
	if now == nil {
		var err error
		if now, err = readVolume(ctx, s.v); err != nil {
			return nil, err
		}
	}
	s.start(now)
	return s, nil
}

func newSession(ctx context.Context, devs []ondisk.Device, seed uint64) *session {
	return &session{ctx: ctx, devs: devs, rnd: rand.New(rand.NewPCG(seed, 7)), pool: blockPool(), seq: 1 << 8, inum: 1 << 10}
}

// resume goes on with a volume that is open, after a crash.
func resume(ctx context.Context, devs []ondisk.Device, v *chain.Volume, seed uint64, now *volume) *session {
	s := newSession(ctx, devs, seed)
	s.v = v
	s.start(now)
	return s
}

func (s *session) start(now *volume) {
	s.now = now
	for _, t := range now.trees {
		s.seq = max(s.seq, t.t.Seq())
		for k := range t.leaves {
			s.inum = max(s.inum, k.inum)
		}
	}
	s.names = int(s.seq) << 10 // no transaction uses up so many
	s.commits = []commit{{Moment: Moment{What: "nothing", Digest: now.digest()}, foreign: s.v.Foreign(), state: now}}
}

func (s *session) open() (err error) {
	s.v, err = chain.Open(s.ctx, s.devs, s.options())
	return err
}

func (s *session) options() chain.Options {
	return chain.Options{Writer: wordUUID("writer"), CacheBytes: 1 << 20, Copied: elsewhere}
}

// blockPool holds file blocks of all kinds: most cannot be compressed, and
// their sizes go up to a whole block.
var blockPool = sync.OnceValue(func() []*ondisk.EncodedBlock {
	rnd := rand.New(rand.NewPCG(5, 5))
	var pool []*ondisk.EncodedBlock
	for _, n := range []int{700, 1024, 3000, 4096, 9000, 16384, 16384, 16000, 32768, 65536, 65536, 65536} {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		if n == 65536 && len(pool)%2 == 0 {
			clear(p[n/3:]) // compresses to a third
		}
		b, _, err := ondisk.EncodeData(p, uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64))
		if err != nil {
			panic(err) // lengths and settings are right
		}
		pool = append(pool, b)
	}
	return pool
})

// events is the number of events recorded.
func (s *session) events() int {
	if s.tap == nil {
		return 0
	}
	return s.tap.Events()
}

func (s *session) flushes() int {
	if s.tap == nil {
		return 0
	}
	return s.tap.Flushes()
}

// errGiveUp ends a transaction that is meant to be aborted.
var errGiveUp = errors.New("given up on purpose")

// txn runs one transaction. fn changes the volume and the model alike. Finding
// no space, or giving up, must leave no trace.
func (s *session) txn(what string, fn func(t *chain.Txn, m *volume) error) error {
	c := commit{Moment: Moment{What: what, Begun: s.events()}, before: s.flushes(), state: s.now.clone()}
	t, err := s.v.Begin(s.ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if s.tight {
		t.UseReserve()
	}
	if err = fn(t, c.state); err == nil {
		err = t.Commit(s.ctx)
	} else {
		t.Abort()
	}
	switch {
	case errors.Is(err, errGiveUp), errors.Is(err, chain.ErrNoSpace):
		s.aborted++
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	c.Acked, c.upto, c.Digest = s.events(), s.flushes(), c.state.digest()
	s.now = c.state
	s.commits = append(s.commits, c)
	return nil
}

// tid is the next one. Each PFS of a cluster has its own, but that they all
// rise together does no harm.
func (s *session) tid() ondisk.Tid {
	s.seq++
	return ondisk.MakeTid(1+s.seq>>10, s.seq)
}

// apply makes a batch part of a transaction, with the state entry for it.
func (s *session) apply(t *chain.Txn, m *volume, label string, b *chain.Batch) error {
	if err := t.Apply(s.ctx, label, b); err != nil {
		return err
	}
	m.trees[label] = m.trees[label].apply(b, m.trees)
	return s.setState(t, m, label)
}

// setState makes the PFS's state entry that of where it is now.
func (s *session) setState(t *chain.Txn, m *volume, label string) error {
	e := s.stateOf(m, label)
	m.states[e.Fsid] = e
	return t.SetState(e)
}

// stateOf is the state entry of a PFS where it is now.
func (s *session) stateOf(m *volume, label string) ondisk.StateEntry {
	tr := m.trees[label]
	e := m.states[tr.fsid]
	e.Fsid, e.T = tr.fsid, tr.t
	e.H = [16]byte(wordUUID(fmt.Sprint(label, tr.t)))
	return e
}

// verify compares the open volume with the model.
func (s *session) verify() error {
	if err := s.v.Checkpoint(s.ctx); err != nil {
		return err
	}
	got, err := readVolume(s.ctx, s.v)
	if err != nil {
		return err
	}
	if got.digest() != s.now.digest() {
		return fmt.Errorf("not what was committed: %s", difference(s.now, got))
	}
	return nil
}

// release ends the held view, which must show what it showed at first.
func (s *session) release() error {
	h := s.held
	if h == nil {
		return nil
	}
	s.held = nil
	defer h.view.Release()
	got, err := readTree(s.ctx, h.view)
	if err != nil {
		return fmt.Errorf("view of %v: %w", h.want.t, err)
	}
	got.fsid = h.want.fsid
	old, cur := newVolume(), newVolume()
	old.trees["view"], cur.trees["view"] = h.want, got
	if old.digest() != cur.digest() {
		return fmt.Errorf("view of %v changed: %s", h.want.t, difference(old, cur))
	}
	return nil
}

// close ends the session as a program would.
func (s *session) close() error {
	if err := s.release(); err != nil {
		return err
	}
	return s.v.Close()
}
