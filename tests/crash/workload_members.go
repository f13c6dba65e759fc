package crash

import (
	"context"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// trimmed is how much of the begin of the space a step throws away: all that was
// in use a moment ago lies there.
const trimmed = 64 << 20

// stepTrim tells the devices of free space, the contents of which are gone then.
func (s *session) stepTrim() error {
	_, err := s.pool.Trim(s.ctx, chain.TrimOptions{Beg: ondisk.ReservedSize, End: ondisk.ReservedSize + trimmed})
	return err
}

// bounded is a context for one change of the members.
func (s *session) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, patience)
}

// stepAddMaster makes the spare a fourth master, which it becomes once it is in
// sync.
func (s *session) stepAddMaster() error { return s.add(ondisk.PFSMaster, "master") }

func (s *session) stepAddSlave() error { return s.add(ondisk.PFSSlave, "slave") }

func (s *session) add(role ondisk.PFSType, name string) error {
	s.ragged = true
	ctx, cancel := s.bounded()
	defer cancel()
	if err := s.pool.NodeAdd(ctx, s.shape.specs(s.devs)[3], role, true); err != nil {
		return err
	}
	if err := s.mend(); err != nil {
		return err
	}
	return s.until("m3", name)
}

// until waits for a member to be in sync in that role.
func (s *session) until(member, role string) error {
	ctx, cancel := s.bounded()
	defer cancel()
	for {
		changed := s.pool.Changed()
		for _, n := range s.pool.Status().Nodes {
			if n.Name == member && n.Role == role && n.State == cluster.NodeInSync {
				return nil
			}
		}
		if len(s.pool.ResyncWanted()) > 0 { // a soft node makes nobody ill, so it may not have been waited for
			if err := s.mendNodes(); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s does not become %s: %s", member, role, s.describe())
		}
	}
}

func (s *session) stepPromote() error { return s.role("m3", ondisk.PFSMaster, "master") }

func (s *session) stepDemote() error { return s.role("m1", ondisk.PFSSlave, "slave") }

func (s *session) role(member string, role ondisk.PFSType, name string) error {
	ctx, cancel := s.bounded()
	defer cancel()
	if err := s.pool.NodeSetRole(ctx, member, role); err != nil {
		return err
	}
	return s.until(member, name)
}

// stepRemove takes one of the masters of the beginning away for good.
func (s *session) stepRemove() error {
	ctx, cancel := s.bounded()
	defer cancel()
	return s.pool.NodeRemove(ctx, "m0")
}
