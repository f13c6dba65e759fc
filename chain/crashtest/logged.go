package crashtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// lateLog has the intent log begin near the end of its ring, which the first
// records go round.
func (s Shape) lateLog(dev *memdev.Device) error {
	hdrs := headers(dev, s.Sizes[0])
	if len(hdrs) == 0 {
		return fmt.Errorf("%d bytes hold no header", s.Sizes[0])
	}
	h := hdrs[0]
	h.Mark.Log = min(h.AuxEnd, h.AuxBeg+logRing) - logRest
	return replaceHeaders(dev, h)
}

const (
	logRing = 64 << 20  // of the aux area, at most
	logRest = 300 << 10 // of the ring, where nothing was logged yet
)

// stepLog makes a txg durable in the intent log, or by a commit if it is not
// for the log: before the first header of an open, or when the log is full.
func (s *session) stepLog() error {
	label := s.oneOf([]string{first, first, first, second})
	tr := s.now.trees[label]
	b := s.maker(tr).files(1 + s.rnd.IntN(4))
	if s.rnd.IntN(3) == 0 {
		b = s.maker(tr).rewrite(1 + s.rnd.IntN(3))
	}
	c := commit{Moment: Moment{What: "logging files of " + label, Begun: s.events()}, before: s.flushes(), state: s.now.clone()}
	was, known := s.now.states[tr.fsid]
	m := c.state
	m.trees[label] = tr.apply(b, m.trees)
	e := s.stateOf(m, label)
	m.states[tr.fsid] = e
	err := chain.ErrNotLogged
	if known {
		err = s.v.Log(s.ctx, chain.LogTxg{
			Label: label, Fsid: tr.fsid, Batch: b, Entry: &e,
			Prev: chain.LogPos{T: was.T, H: was.H}, Pos: chain.LogPos{T: e.T, H: e.H},
		})
	}
	if errors.Is(err, chain.ErrNotLogged) {
		return s.txn("files of "+label, func(t *chain.Txn, m *volume) error { return s.apply(t, m, label, b) })
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.What, err)
	}
	c.Acked, c.upto, c.Digest = s.events(), s.flushes(), c.state.digest()
	s.now = c.state
	s.commits = append(s.commits, c)
	s.logged++
	return nil
}

// stepCheckpoint brings what is logged into the tree.
func (s *session) stepCheckpoint() error { return s.v.Checkpoint(s.ctx) }

// stepKill ends the process without a word to the volume. The next one brings
// what is logged into the tree.
func (s *session) stepKill() error {
	if err := s.release(); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	return s.v.GaveUp()
}

// stepKillAndGrow is stepKill, and the next process makes the volume larger.
func (s *session) stepKillAndGrow() error {
	if err := s.release(); err != nil {
		return err
	}
	if err := s.grow(); err != nil {
		return err
	}
	return s.v.GaveUp()
}

// stepGiveUp drops what is logged, as a member of a cluster does whose tree
// cannot take it. It is as the newest header has it, and says so.
func (s *session) stepGiveUp() error {
	if s.v.Logged() == 0 {
		return nil
	}
	tree, err := readVolume(s.ctx, s.v)
	if err != nil {
		return err
	}
	c := commit{Moment: Moment{What: "giving up the log", Begun: s.events()}, before: s.flushes()}
	for _, was := range slices.Backward(s.commits) {
		if was.Digest == tree.digest() {
			c.state = was.state.clone()
			break
		}
	}
	if c.state == nil {
		return errors.New("what is in the tree was never committed")
	}
	if err := s.v.GiveUpLog(s.ctx); err != nil {
		return err
	}
	for fsid, e := range c.state.states {
		e.Flags |= ondisk.StateLost
		c.state.states[fsid] = e
	}
	c.Acked, c.upto, c.Digest = s.events(), s.flushes(), c.state.digest()
	s.now = c.state
	s.commits = append(s.commits, c)
	return nil
}

// elsewhere has every PFS be one of several copies.
func elsewhere(context.Context, *chain.Volume, *chain.PFSInfo) bool { return true }
