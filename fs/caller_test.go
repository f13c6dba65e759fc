package fs

import (
	"math"
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestAdministers(t *testing.T) {
	me := uint32(os.Geteuid())
	if uid, ok := uidOf(uint32(os.Getpid())); !ok || uid != me {
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
		{math.MaxUint32, uint32(os.Getpid()), true}, {math.MaxUint32, math.MaxInt32, false},
		{math.MaxUint32, 0, false}, // of another namespace
	} {
		caller := fuse.Caller{Owner: fuse.Owner{Uid: c.uid}, Pid: c.pid}
		if got := administers(&caller); got != c.want {
			t.Errorf("user %d, process %d: %v", c.uid, c.pid, got)
		}
	}
}
