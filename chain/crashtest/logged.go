package crashtest

import (
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
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
	m.trees[label] = tr.apply(b)
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
