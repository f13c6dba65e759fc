package fs

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/anvilfs/anvilfs/ondisk"
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
	users, ok := statusOf(tid, "Uid")
	if !ok || len(users) < 2 {
		return 0, false
	}
	return users[1], true
}

// inGroup reports whether a caller is in a group; one that cannot be asked is
// in none.
func inGroup(c *fuse.Caller, gid uint32) bool {
	const fsGroup = 3 // behind the real, the effective and the saved one
	own, _ := statusOf(c.Pid, "Gid")
	more, _ := statusOf(c.Pid, "Groups")
	return len(own) > fsGroup && own[fsGroup] == gid || slices.Contains(more, gid)
}

// statusOf are the numbers behind a word in the status of a thread.
func statusOf(tid uint32, word string) (numbers []uint32, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return nil, false
	}
	for line := range strings.Lines(string(text)) {
		key, rest, _ := strings.Cut(line, ":")
		if key != word {
			continue
		}
		for _, f := range strings.Fields(rest) {
			n, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, false
			}
			numbers = append(numbers, uint32(n))
		}
		return numbers, true
	}
	return nil, false
}

// dropGroupBit takes the set-group-id bit from a file that somebody outside of
// its group is about to change. It means something where the group may not
// execute, too, for whoever reads it so; where it may, the change itself takes it.
func (r *raw) dropGroupBit(ctx context.Context, inum uint64, c *fuse.Caller) error {
	rec, err := r.fs.peek(ctx, inum)
	if err != nil {
		return err
	}
	m := &rec.Meta
	if m.Type != ondisk.ObjFile || m.Mode&(modeSetgid|modeGroupX) != modeSetgid || inGroup(c, m.GID) {
		return nil
	}
	_, err = r.fs.Setattr(ctx, inum, Change{DropGroupBit: true})
	return err
}
