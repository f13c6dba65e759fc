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
