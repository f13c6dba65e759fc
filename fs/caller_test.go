package fs

import (
	"math"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestAdministers(t *testing.T) {
	// Of this thread: a test that changes the user of one may have had the first,
	// which does not end with its goroutine.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	me, self := uint32(os.Geteuid()), uint32(syscall.Gettid())
	if uid, ok := uidOf(self); !ok || uid != me {
		t.Errorf("this process is of user %d, %v; want %d", uid, ok, me)
	}
	if uid, ok := uidOf(math.MaxInt32); ok {
		t.Errorf("no process is of user %d", uid)
	}
	for _, c := range []struct {
		uid, pid uint32
		want     bool
	}{
		{0, 0, true}, {me, 0, true}, {me + 1, 0, me+1 == 0},
		{math.MaxUint32, self, true}, {math.MaxUint32, math.MaxInt32, false},
		{math.MaxUint32, 0, false}, // of another namespace
	} {
		caller := fuse.Caller{Owner: fuse.Owner{Uid: c.uid}, Pid: c.pid}
		if got := administers(&caller); got != c.want {
			t.Errorf("user %d, process %d: %v", c.uid, c.pid, got)
		}
	}
}
