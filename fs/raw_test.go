package fs

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Symptom: each open cost OPEN, FLUSH and RELEASE, and threw away what the
// kernel had cached, since go-fuse's defaults answer them with success.
func TestKernelIsToldNotToOpen(t *testing.T) {
	r := &raw{RawFileSystem: fuse.NewDefaultRawFileSystem()}
	for name, status := range map[string]fuse.Status{
		"OPEN":    r.Open(nil, &fuse.OpenIn{}, &fuse.OpenOut{}),
		"FLUSH":   r.Flush(nil, &fuse.FlushIn{}),
		"OPENDIR": r.OpenDir(nil, &fuse.OpenIn{}, &fuse.OpenOut{}),
		"CREATE":  r.Create(nil, &fuse.CreateIn{}, "x", &fuse.CreateOut{}),
		"ACCESS":  r.Access(nil, &fuse.AccessIn{}),
	} {
		if status != fuse.ENOSYS {
			t.Errorf("%s: %v, want ENOSYS", name, status)
		}
	}
}
