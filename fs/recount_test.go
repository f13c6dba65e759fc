package fs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A squeezer is a store in which files take a tenth once they are committed.
type squeezer struct {
	*memStore
	mu        sync.Mutex
	committed bool
	told      func()
}

func (s *squeezer) Pending(uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.committed
}

func (s *squeezer) OnTrees(fn func()) { s.told = fn }

func (s *squeezer) Blocks(ctx context.Context, inum uint64) (uint64, error) {
	n, err := s.memStore.Blocks(ctx, inum)
	if !s.Pending(inum) {
		n /= 10
	}
	return n, err
}

func (s *squeezer) commit(done bool) {
	s.mu.Lock()
	s.committed = done
	s.mu.Unlock()
	if done {
		s.told()
	}
}

// Symptom: du said for a day what a file had taken in memory, if somebody had looked
// at it before it was compressed.
func TestSpaceAfterCommit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	store := &squeezer{memStore: newMemStore()}
	dir := tempDir(t)
	s, err := Mount(context.Background(), store, dir, MountOptions{})
	must(t, err)
	defer func() { must(t, s.Unmount()) }()
	file := filepath.Join(dir, "f")
	must(t, os.WriteFile(file, bytes.Repeat([]byte("x"), 1<<20), 0o644))
	must(t, os.Chtimes(file, time.Unix(1, 0), time.Unix(1, 0))) // the answer has all attributes
	space := func() int64 {
		t.Helper()
		var st syscall.Stat_t
		must(t, syscall.Stat(file, &st))
		return st.Blocks * 512
	}
	if n := space(); n != 1<<20 {
		t.Errorf("%d bytes before the commit", n)
	}
	store.commit(true)
	s.Recount()
	if n := space(); n > 1<<20/9 {
		t.Errorf("%d bytes after the commit", n)
	}
	if len(s.recount.told) != 0 {
		t.Errorf("%d files are still kept in mind", len(s.recount.told))
	}
	// Nobody asks for it: what is on the media is told a moment later.
	store.commit(false)
	must(t, os.Chtimes(file, time.Unix(2, 0), time.Unix(2, 0)))
	if n := space(); n != 1<<20 {
		t.Errorf("%d bytes before the next commit", n)
	}
	store.commit(true)
	for end := time.Now().Add(10 * time.Second); space() > 1<<20/9; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the kernel was not told")
		}
	}
}
