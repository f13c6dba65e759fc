package fs

import (
	"context"
	"os"
	"testing"
)

// mountMem mounts a fresh filesystem in memory and returns its root.
func mountMem(t testing.TB) (string, *Server, *memStore) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	store := newMemStore()
	dir := tempDir(t)
	s, err := Mount(context.Background(), store, dir, MountOptions{
		AllowOther: true, Control: echoControl{}, Debug: os.Getenv("FUSE_DEBUG") != "",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return dir, s, store
}
