package fs

import (
	"context"
	"slices"
	"sync"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// memStore is a Store in memory, for tests of this package's own rules.
type memStore struct {
	mu     sync.Mutex
	next   uint64
	inodes map[uint64]*Record
	dirs   map[uint64][]ondisk.Dirent // by key
	data   map[uint64][]byte
	avail  int64 // bytes that may still be added; Begin refuses what is more
}

func newMemStore() *memStore {
	root := ondisk.NewInodeMeta(ondisk.InumRoot, ondisk.ObjDir)
	root.Mode, root.Nlinks, root.Iparent = 0o755, 1, ondisk.InumRoot
	return &memStore{
		next:   ondisk.InumFirst,
		inodes: map[uint64]*Record{ondisk.InumRoot: {Meta: root}},
		dirs:   map[uint64][]ondisk.Dirent{},
		data:   map[uint64][]byte{},
		avail:  1 << 40,
	}
}

func (s *memStore) Inode(_ context.Context, inum uint64) (*Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.inodes[inum]
	return r, ok, nil
}

func (s *memStore) Inodes(_ context.Context, inums []uint64, fn func(*Record)) error {
	s.mu.Lock()
	var list []*Record
	for _, inum := range inums {
		if r := s.inodes[inum]; r != nil && inum%5 != 0 { // leaves out some, as it may
			list = append(list, r)
		}
	}
	s.mu.Unlock()
	for _, r := range list {
		fn(r)
	}
	return nil
}

func (s *memStore) Lookup(_ context.Context, dir uint64, name string) (ondisk.Dirent, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.dirs[dir][s.at(dir, ondisk.NameHash(name)):] {
		if d.Name == name {
			return d, true, nil
		}
		if d.Key&^ondisk.CollisionMask != ondisk.NameHash(name) {
			break
		}
	}
	return ondisk.Dirent{}, false, nil
}

// at is the index of the first entry with that key or a higher one.
func (s *memStore) at(dir, key uint64) int {
	i, _ := slices.BinarySearchFunc(s.dirs[dir], key, func(d ondisk.Dirent, key uint64) int {
		switch {
		case d.Key < key:
			return -1
		case d.Key > key:
			return 1
		}
		return 0
	})
	return i
}

func (s *memStore) ReadDir(_ context.Context, dir, from uint64, fn func(ondisk.Dirent) bool) error {
	s.mu.Lock()
	list := slices.Clone(s.dirs[dir][s.at(dir, from):])
	s.mu.Unlock()
	for _, d := range list {
		if !fn(d) {
			break
		}
	}
	return nil
}

func (s *memStore) ReadData(_ context.Context, inum, off uint64, dst []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(dst)
	if d := s.data[inum]; off < uint64(len(d)) {
		copy(dst, d[off:])
	}
	return nil
}

func (s *memStore) Lend(ctx context.Context, inum, off uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	return b, s.ReadData(ctx, inum, off, b)
}

// Return spoils what is given back: nobody may look at it any more.
func (s *memStore) Return(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}

func (s *memStore) seek(inum, off, size uint64, data bool) (uint64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const block = ondisk.LogicalBlock
	for ; off < size; off = off/block*block + block {
		d := s.data[inum]
		from := off / block * block
		has := false
		if from < uint64(len(d)) {
			for _, c := range d[from:min(from+block, uint64(len(d)))] {
				has = has || c != 0
			}
		}
		if has == data {
			return off, true, nil
		}
	}
	return 0, false, nil
}

func (s *memStore) SeekData(_ context.Context, inum, off, size uint64) (uint64, bool, error) {
	return s.seek(inum, off, size, true)
}

func (s *memStore) SeekHole(_ context.Context, inum, off, size uint64) (uint64, bool, error) {
	return s.seek(inum, off, size, false)
}

func (s *memStore) Blocks(_ context.Context, inum uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.data[inum])), nil
}

func (s *memStore) Orphans(context.Context) (func(context.Context, func(uint64) bool) error, error) {
	s.mu.Lock()
	var list []uint64
	for inum, r := range s.inodes {
		owner := s.inodes[inum&^ondisk.AttrBit]
		if r.Meta.Nlinks == 0 || owner == nil {
			list = append(list, inum)
		}
	}
	s.mu.Unlock()
	return func(_ context.Context, fn func(uint64) bool) error {
		for _, inum := range list {
			if !fn(inum) {
				break
			}
		}
		return nil
	}, nil
}

func (s *memStore) Begin(_ context.Context, c Cost) (Txn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if need := c.Bytes + int64(c.Leaves)*ondisk.InodeSize; need > s.avail {
		return nil, errNoSpace
	}
	return &memTxn{s: s}, nil
}

func (s *memStore) BeginFree(context.Context) (Txn, error) { return &memTxn{s: s}, nil }
func (s *memStore) Sync(context.Context) error             { return nil }
func (s *memStore) Lost(uint64) error                      { return nil }
func (s *memStore) LostAny() error                         { return nil }

func (s *memStore) StatFS() StatFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := uint64(s.avail)
	return StatFS{Total: 1 << 41, Free: free, Avail: free, Inodes: uint64(len(s.inodes))}
}

// memTxn changes its store at once.
type memTxn struct {
	s     *memStore
	ended bool
}

func (t *memTxn) NewInum() uint64 {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.next++
	return t.s.next - 1
}

func (t *memTxn) PutInode(r *Record) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if r.Meta.DirectData() && r.Meta.Size > ondisk.InlineMax || r.Meta.Validate() != nil {
		panic("invalid inode")
	}
	t.s.inodes[r.Meta.Inum] = r
}

func (t *memTxn) DeleteInode(inum uint64) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.avail += int64(len(t.s.data[inum]))
	delete(t.s.inodes, inum)
	delete(t.s.data, inum)
	delete(t.s.dirs, inum)
}

func (t *memTxn) AddDirent(dir uint64, name string, inum uint64, typ ondisk.ObjType) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	key := ondisk.NameHash(name)
	i := t.s.at(dir, key)
	for i < len(t.s.dirs[dir]) && t.s.dirs[dir][i].Key == key {
		i, key = i+1, key+1
	}
	t.s.dirs[dir] = slices.Insert(t.s.dirs[dir], i, ondisk.Dirent{Key: key, Inum: inum, Type: typ, Name: name})
	return nil
}

func (t *memTxn) find(dir uint64, name string) int {
	return slices.IndexFunc(t.s.dirs[dir], func(d ondisk.Dirent) bool { return d.Name == name })
}

func (t *memTxn) RemoveDirent(dir uint64, name string) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	i := t.find(dir, name)
	t.s.dirs[dir] = slices.Delete(t.s.dirs[dir], i, i+1)
	return nil
}

func (t *memTxn) ReplaceDirent(dir uint64, name string, inum uint64, typ ondisk.ObjType) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	d := &t.s.dirs[dir][t.find(dir, name)]
	d.Inum, d.Type = inum, typ
	return nil
}

func (t *memTxn) WriteData(_ context.Context, inum, off uint64, p []byte) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	d := t.s.data[inum]
	if end := off + uint64(len(p)); end > uint64(len(d)) {
		t.s.avail -= int64(end) - int64(len(d))
		d = append(d, make([]byte, end-uint64(len(d)))...)
	}
	copy(d[off:], p)
	t.s.data[inum] = d
	return nil
}

func (t *memTxn) ZeroData(_ context.Context, inum, from, to uint64) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	d := t.s.data[inum]
	clear(d[min(from, uint64(len(d))):min(to, uint64(len(d)))])
	return nil
}

func (t *memTxn) TruncateData(_ context.Context, inum, oldSize, newSize uint64) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	d := t.s.data[inum]
	keep := min(oldSize, newSize, uint64(len(d)))
	t.s.avail += int64(len(d)) - int64(keep)
	t.s.data[inum] = slices.Clone(d[:keep])
	return nil
}

func (s *memStore) SettleData(context.Context, uint64, uint64, uint64) error { return nil }

func (t *memTxn) ShareData(ctx context.Context, src, srcOff, dst, dstOff, length uint64) (uint64, error) {
	p := make([]byte, length)
	t.s.mu.Lock()
	if d := t.s.data[src]; srcOff < uint64(len(d)) {
		copy(p, d[srcOff:])
	}
	t.s.mu.Unlock()
	return length, t.WriteData(ctx, dst, dstOff, p)
}

func (t *memTxn) ShareSnapshot(context.Context, cluster.SnapshotName, uint64, uint64, uint64, uint64, uint64) (uint64, error) {
	return 0, errNotHere
}

func (t *memTxn) End() {
	if t.ended {
		panic("transaction ended twice")
	}
	t.ended = true
}
