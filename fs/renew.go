package fs

import (
	"context"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// renew forgets all that is known of inodes but the kernel's references: the
// content is another one. No call may use a node.
func (t *table) renew() {
	t.each(func(s *shard) {
		for inum := range s.refs {
			s.unsized[inum] = struct{}{}
		}
		for inum := range s.unnamed {
			if _, ok := s.dirs[inum]; ok {
				s.reborn[inum]++
			}
		}
		clear(s.nodes)
		clear(s.unnamed)
	})
}

// generation tells the kernel which of its inodes a number stands for: to a
// directory that was removed while it was in use the kernel lets nobody in,
// for ever, so with other content that has it the number stands for another one.
func (t *table) generation(inum uint64) uint64 {
	s := t.shard(inum)
	s.mu.Lock()
	defer s.mu.Unlock()
	return 1 + s.reborn[inum]
}

// sizeUnknown reports whether the kernel may have a size of a file that is not
// of the present content: it was not told of one since.
func (t *table) sizeUnknown(inum uint64) bool {
	s := t.shard(inum)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.unsized[inum]
	return ok
}

// sized notes that the kernel was told the size of a file.
func (t *table) sized(inum uint64) {
	s := t.shard(inum)
	s.mu.Lock()
	delete(s.unsized, inum)
	s.mu.Unlock()
}

// told notes that the kernel was given attributes. Those that are on the way
// when it is made forget, it drops.
func (f *FS) told(inum uint64) {
	if f.rolled.Load() && !f.mapped.Load() {
		f.table.sized(inum)
	}
}

// appends reports whether a write goes to the end of its file, wherever the
// kernel takes that to be. It looks at the size that it has and does not ask.
func (r *raw) appends(in *fuse.WriteIn) bool {
	return r.fs.rolled.Load() && in.Flags&syscall.O_APPEND != 0 && in.WriteFlags&fuse.WRITE_CACHE == 0 &&
		in.Flags&syscall.O_DIRECT == 0 && r.fs.table.sizeUnknown(in.NodeId)
}

// Append is Write at the end of the file.
func (f *FS) Append(ctx context.Context, inum uint64, p []byte, kill bool) (int, error) {
	n, rec, err := f.lockFile(ctx, inum)
	if err != nil {
		return 0, err
	}
	defer f.unlock(n)
	if len(p) == 0 {
		return 0, nil
	}
	if uint64(len(p)) > sizeMax-rec.Meta.Size {
		return 0, errTooBig
	}
	if err := f.writeLocked(ctx, n, rec.Meta.Size, p, kill); err != nil {
		return 0, err
	}
	return len(p), nil
}

// appended is called when a write was answered: the kernel has its bytes where
// it took the end of the file to be.
func (c *conn) appended(op uint32, in []byte) {
	if op != opWrite || !c.raw.fs.rolled.Load() || len(in) < lenInHeader+lenWriteIn {
		return
	}
	w := (*fuse.WriteIn)(unsafe.Pointer(&in[0]))
	if c.raw.appends(w) {
		c.invalidateData(w.NodeId)
	}
}
