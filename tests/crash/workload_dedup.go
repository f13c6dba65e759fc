package crash

import (
	"fmt"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// noise does not compress.
func (s *session) noise(n int) []byte {
	p := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		x := s.rnd.Uint64()
		for j := range 8 {
			p[i+j] = byte(x >> (8 * j))
		}
	}
	return p
}

// callTwins makes two files of the same blocks. With a pool that looks for equals
// they are shared as they are written.
func callTwins(s *session, m *model) error {
	p := s.noise((2+s.rnd.IntN(3))*ondisk.LogicalBlock + 700)
	for _, name := range []string{"twin-a", "twin-b"} {
		path := fmt.Sprintf("%s%d", name, len(s.moments))
		inum, err := s.make(m, path, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o600})
		if err != nil {
			return err
		}
		if n, err := s.f.Write(s.ctx, inum, 0, p, false); err != nil || n < len(p) {
			return fmt.Errorf("%d bytes written of %d: %w", n, len(p), err)
		}
		m.change(inum, func(f *file) { f.write(0, p) })
	}
	return nil
}

// stepDedup has files share the blocks in which they are equal.
func (s *session) stepDedup() error {
	if _, err := s.look(fs.DedupOptions{MinSize: 1}); err != nil {
		return err
	}
	return s.sync()
}

// stepShared demands that some are shared.
func (s *session) stepShared() error {
	rep, err := s.look(fs.DedupOptions{MinSize: 1, DryRun: true})
	if err == nil && rep.Already == 0 {
		err = fmt.Errorf("nothing is shared: %+v", rep)
	}
	return err
}

func (s *session) look(o fs.DedupOptions) (fs.DedupReport, error) {
	d, err := s.f.NewDedup(o)
	if err != nil {
		return fs.DedupReport{}, err
	}
	for more := true; more && err == nil; {
		more, err = d.Step(s.ctx)
	}
	return d.Report(), err
}

// callPolicy changes how long automatic snapshots are kept.
func callPolicy(s *session, m *model) error {
	to := cluster.SnapshotPolicy{Hourly: uint16(1 + len(s.moments)), Daily: 2}
	m.policy = fmt.Sprint(to)
	return s.pool.SetSnapshotPolicy(s.ctx, to)
}

// policyLine is how dumps and models tell a policy; "" is none.
func (s *session) policyLine() (string, error) {
	p, err := s.pool.SnapshotPolicy(s.ctx)
	if err != nil || p == (cluster.SnapshotPolicy{}) {
		return "", err
	}
	return fmt.Sprint(p), nil
}
