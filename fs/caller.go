package fs

import (
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// administers reports whether a caller may do what other filesystems leave to
// CAP_SYS_ADMIN: root, or who mounted. The kernel does not check for us.
func administers(c *fuse.Caller) bool {
	uid, known := c.Uid, true
	if uid == math.MaxUint32 {
		// Since mounts can map ids, the kernel names callers only where
		// something is made. They wait for us, so their number is theirs.
		uid, known = uidOf(c.Pid)
	}
	return known && (uid == 0 || int(uid) == os.Geteuid())
}

// uidOf is the effective user of a thread.
func uidOf(tid uint32) (uid uint32, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		var real uint32
		if n, _ := fmt.Sscanf(line, "Uid: %d %d", &real, &uid); n == 2 {
			return uid, true
		}
	}
	return 0, false
}
