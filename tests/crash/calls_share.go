package crash

import (
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// callCopyShared copies a file by reference: blocks as a whole, and what is left
// at the end byte by byte if the target is longer.
func callCopyShared(s *session, m *model) error {
	_, src, err := s.some(m, "a", func(f *file) bool { return regular(f) && len(f.content) >= ondisk.LogicalBlock })
	if err != nil {
		return err
	}
	_, dst, err := s.some(m, "b", regular, src)
	if err != nil {
		return err
	}
	from := m.files[src].content
	n, err := s.f.Copy(s.ctx, src, 0, dst, 0, uint64(len(from)), false)
	if err != nil || n < uint64(len(from)) {
		return fmt.Errorf("%d bytes copied of %d: %w", n, len(from), err)
	}
	m.change(dst, func(f *file) { f.write(0, from) })
	return nil
}
