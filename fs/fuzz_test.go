package fs

import (
	"bytes"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// FuzzACL reads ACLs of any bytes, as callers set them and media have them.
func FuzzACL(f *testing.F) {
	f.Add(encodeACL([]aclEntry{{tag: aclUserObj, perm: 6}, {tag: aclGroupObj, perm: 4}, {tag: aclOther}}), uint32(0o640))
	f.Fuzz(func(t *testing.T, value []byte, mode uint32) {
		if acl, err := decodeACL(value); err == nil {
			if again, err := decodeACL(encodeACL(acl)); err != nil || len(again) != len(acl) {
				t.Errorf("%v becomes %v, %v", acl, again, err)
			}
			if m, _ := aclMode(acl); m&^0o777 != 0 {
				t.Errorf("%v is mode %o", acl, m)
			}
		}
		out, err := aclWithMode(bytes.Clone(value), mode&0o7777)
		if err != nil || len(out) != len(value) {
			t.Errorf("%d bytes, %v", len(out), err)
		}
		for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default", "user.x"} {
			m := ondisk.NewInodeMeta(7, ondisk.ObjDir)
			m.Mode = mode & 0o7777
			if got, _, err := aclToMode(name, value, m); err == nil && got&^0o7777 != 0 {
				t.Errorf("%s: mode %o", name, got)
			}
		}
	})
}
