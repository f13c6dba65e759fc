package crash

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
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

// A restored file was copied out of a snapshot.
type restored struct {
	snap     string
	src, dst uint64
}

// callRestore copies a file out of the oldest snapshot, whatever became of that
// file since.
func callRestore(s *session, m *model) error {
	s.restored = nil
	name, err := m.oldest()
	if err != nil {
		return err
	}
	then := &model{files: m.snaps[name].files}
	src, from := uint64(0), []byte(nil)
	for _, path := range then.paths() {
		inum, _ := then.find(path)
		if f := then.files[inum]; regular(f) && len(f.content) > max(len(from), ondisk.LogicalBlock) {
			src, from = inum, f.content
		}
	}
	if src == 0 {
		return errSkip
	}
	dst, err := s.make(m, fmt.Sprintf("restored%d", len(s.moments)), fs.NewNode{Type: ondisk.ObjFile, Mode: 0o600})
	if err != nil {
		return err
	}
	if err := s.copyOut(name, src, dst, uint64(len(from))); err != nil {
		return fmt.Errorf("inode %d of snapshot %s: %w", src, name, err)
	}
	m.change(dst, func(f *file) { f.write(0, from) })
	s.restored = &restored{name, src, dst}
	return nil
}

func (s *session) copyOut(name string, src, dst, size uint64) (err error) {
	names, err := s.pool.SnapshotNames(s.ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(names, func(n cluster.SnapshotName) bool { return n.Name == name })
	if i < 0 {
		return cluster.ErrNoSnapshot
	}
	p, err := s.pool.OpenSnapshot(s.ctx, names[i])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close(s.ctx)) }()
	snap, err := s.serve(s.ctx, p, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close(s.ctx)) }()
	for done := uint64(0); done < size; {
		n, err := s.f.CopyFrom(s.ctx, snap, names[i], src, done, dst, done, size-done, false)
		if err != nil || n == 0 {
			return fmt.Errorf("%d bytes copied of %d: %w", done, size, err)
		}
		done += n
	}
	return nil
}

// stepRestore does so, and counts the blocks of the snapshot that the file has:
// what cannot be shared is copied.
func (s *session) stepRestore() error {
	if err := synced(callRestore)(s); err != nil || s.restored == nil || s.tap == nil {
		return err
	}
	r := s.restored
	v, err := chain.Open(s.ctx, s.tap.Bare()[:1], chain.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	in, err := addresses(s, v, r.snap, r.src)
	if err == nil {
		var have map[uint64]bool
		if have, err = addresses(s, v, label, r.dst); err == nil {
			maps.DeleteFunc(have, func(off uint64, _ bool) bool { return !in[off] })
			s.shared += len(have)
		}
	}
	return errors.Join(err, v.Close())
}

// addresses are where the blocks of an inode are.
func addresses(s *session, v *chain.Volume, pfs string, inum uint64) (map[uint64]bool, error) {
	view, err := v.View(s.ctx, pfs)
	if err != nil {
		return nil, err
	}
	defer view.Release()
	offs := make(map[uint64]bool)
	err = view.DataRefs(s.ctx, inum, 0, ondisk.DirBit-1, func(r *ondisk.Blockref) bool {
		offs[r.Off()] = true
		return true
	})
	return offs, err
}
