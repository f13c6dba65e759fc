package crash

import (
	"errors"

	"github.com/anvilfs/anvilfs/fs"
)

// account gives the directory of the calls an account, which fsck recounts in
// each image.
func (s *session) account(m *model) error {
	if s.plain {
		return nil
	}
	dir, _ := m.find(s.base)
	return s.counted(dir, s.f.SetQuota(s.ctx, dir, func(l *fs.Limits) { l.Bytes = 1 << 30 }))
}

// counted waits until the directory is counted.
func (s *session) counted(dir uint64, err error) error {
	return errors.Join(err, s.f.WaitQuota(s.ctx, dir))
}

// callQuota changes limits, counts anew, or gives the account up; none of it
// shows in the files.
func callQuota(s *session, m *model) error {
	dir, ok := m.find(s.base)
	if !ok || s.plain {
		return errSkip
	}
	switch _, has, err := s.f.QuotaOf(s.ctx, dir); {
	case err != nil:
		return err
	case !has:
		return s.account(m)
	}
	switch s.rnd.IntN(3) {
	case 0:
		return s.f.SetQuota(s.ctx, dir, func(l *fs.Limits) { l.Inodes = 1000 })
	case 1:
		return s.counted(dir, s.f.RecountQuotas(s.ctx))
	}
	return s.counted(dir, s.f.ClearQuota(s.ctx, dir))
}
