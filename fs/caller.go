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
	uid, known := userOf(c)
	return known && (uid == 0 || int(uid) == os.Geteuid())
}

// isRoot reports whether a caller is root.
func isRoot(c *fuse.Caller) bool {
	uid, known := userOf(c)
	return known && uid == 0
}

// userOf is the effective user of a caller. Since mounts can map ids, the kernel
// names callers only where something is made. They wait for us, so their number
// is theirs.
func userOf(c *fuse.Caller) (uid uint32, known bool) {
	if c.Uid != math.MaxUint32 {
		return c.Uid, true
	}
	return uidOf(c.Pid)
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
