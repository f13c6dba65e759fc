package crash

import (
	"fmt"
	"maps"
	"slices"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// bytes are n bytes, of which half the time most are zero.
func (s *session) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(s.rnd.Uint32())
	}
	if s.rnd.IntN(2) == 0 {
		clear(p[n/8:])
	}
	return p
}

// write changes n bytes of a file.
func (s *session) write(m *model, inum uint64, off, n int) error {
	p := s.bytes(n)
	if done, err := s.f.Write(s.ctx, inum, uint64(off), p, false); err != nil || done < n {
		return fmt.Errorf("%d bytes written of %d: %w", done, n, err)
	}
	m.change(inum, func(f *file) { f.write(off, p) })
	return nil
}

// callWrite crosses the border of two blocks.
func callWrite(s *session, m *model) error {
	_, inum, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	return s.write(m, inum, ondisk.LogicalBlock-100, 300)
}

func callAppend(s *session, m *model) error {
	_, inum, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	return s.write(m, inum, len(m.files[inum].content), 5000)
}

// callOverwrite makes a small file too large to be kept in its inode.
func callOverwrite(s *session, m *model) error {
	_, inum, err := s.some(m, "b", regular)
	if err != nil {
		return err
	}
	return s.write(m, inum, 0, 2000)
}

func callBigWrite(s *session, m *model) error {
	_, inum, err := s.some(m, "d/c", regular)
	if err != nil {
		return err
	}
	return s.write(m, inum, 1, 700_000)
}

func callCopy(s *session, m *model) error {
	_, src, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	_, dst, err := s.some(m, "b", regular, src)
	if err != nil {
		return err
	}
	from := m.files[src].content
	from = from[:min(len(from), 1<<20)] // what one call copies
	n, err := s.f.Copy(s.ctx, src, 0, dst, 10, uint64(len(from)), false)
	if err != nil || n < uint64(len(from)) {
		return fmt.Errorf("%d bytes copied of %d: %w", n, len(from), err)
	}
	m.change(dst, func(f *file) {
		if len(from) > 0 {
			f.write(10, from)
		}
	})
	return nil
}

func callResize(s *session, m *model, to func(int) int) error {
	_, inum, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	n := to(len(m.files[inum].content))
	size := uint64(n)
	m.change(inum, func(f *file) { f.content = resize(f.content[:min(n, len(f.content))], n) })
	_, err = s.f.Setattr(s.ctx, inum, fs.Change{Size: &size})
	return err
}

func callPunch(s *session, m *model) error {
	_, inum, err := s.some(m, "a", func(f *file) bool { return regular(f) && len(f.content) > 2000 })
	if err != nil {
		return err
	}
	n := len(m.files[inum].content)
	from, to := 1000, n-1000
	m.change(inum, func(f *file) {
		f.content = slices.Clone(f.content)
		clear(f.content[from:to])
	})
	return s.f.Fallocate(s.ctx, inum, uint64(from), uint64(to-from), fs.FallocPunchHole|fs.FallocKeepSize, false)
}

func callSetAttr(s *session, m *model, path string, n int) error {
	_, inum, err := s.some(m, path, regular)
	if err != nil {
		return err
	}
	name, value := fmt.Sprintf("user.k%d", s.rnd.IntN(3)), s.bytes(n)
	m.change(inum, func(f *file) {
		if f.attrs == nil {
			f.attrs = make(map[string]string)
		}
		f.attrs[name] = string(value)
	})
	return s.f.SetXattr(s.ctx, inum, name, value, 0, false)
}

func callRemoveAttr(s *session, m *model) error {
	_, inum, err := s.some(m, "a", func(f *file) bool { return len(f.attrs) > 0 })
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(m.files[inum].attrs))
	name := names[s.rnd.IntN(len(names))]
	m.change(inum, func(f *file) { delete(f.attrs, name) })
	return s.f.RemoveXattr(s.ctx, inum, name)
}

func callChmod(s *session, m *model) error {
	_, inum, err := s.some(m, "a", func(f *file) bool { return f.typ != ondisk.ObjSymlink })
	if err != nil {
		return err
	}
	mode := uint32(0o400 + s.rnd.IntN(0o400))
	m.change(inum, func(f *file) { f.mode = mode })
	_, err = s.f.Setattr(s.ctx, inum, fs.Change{Mode: &mode})
	return err
}

// callUtimes sets a time, which only shows beside the model.
func callUtimes(s *session, m *model) error {
	_, inum, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	_, err = s.f.Setattr(s.ctx, inum, fs.Change{Mtime: &fs.Stamp{Sec: int64(s.rnd.IntN(1 << 30)), Nsec: 123_456_789}})
	return err
}

// callSetProperty says how data is stored from then on. It shows beside the
// model, and in what is written later.
func callSetProperty(s *session, m *model) error {
	_, inum, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	name, values := fs.PropCompression, []string{"none", "lz4", "zlib:3", "autozero"}
	if s.rnd.IntN(2) == 0 {
		name, values = fs.PropCheck, []string{"iscsi32", "sha192", "xxhash64"}
	}
	return s.f.SetXattr(s.ctx, inum, name, []byte(values[s.rnd.IntN(len(values))]), 0, false)
}
