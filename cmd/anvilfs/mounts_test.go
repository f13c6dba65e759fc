package main

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

// Status advises commands on a mount that was made read-only since: who types one
// is told what comes first, and callers that can do without still know it.
func TestReadOnlyMountTakesNoCommands(t *testing.T) {
	err := mountError("/mnt", &os.PathError{Op: "open", Path: "/mnt/.anvilfs/control", Err: syscall.EROFS})
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount -o remount,rw /mnt") {
		t.Errorf("%v", err)
	}
}

// Symptom: who unmounted what another user had mounted heard of an entry in /etc/mtab.
func TestWhoMayUnmount(t *testing.T) {
	for _, c := range []struct {
		options string
		uid     int
		may     bool
	}{
		{"rw,noatime,rw,user_id=1000,group_id=1000,default_permissions", 1000, true},
		{"rw,noatime,rw,user_id=1000,group_id=1000,default_permissions", 100, false},
		{"rw,rw,user_id=0,group_id=0", 1000, false},
		{"rw,rw,user_id=1000,group_id=0", 0, true},
		{"rw,rw", 1000, true},
	} {
		m, ok := parseMountinfo("36 35 0:44 / /mnt rw shared:1 - fuse.anvilfs SRC " + c.options)
		if !ok || m.mountedBy(c.uid) != c.may {
			t.Errorf("user %d, %s: may %v, want %v", c.uid, c.options, !c.may, c.may)
		}
	}
}
