package fs

import (
	"encoding/binary"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Shutdown makes the filesystem behave as if its process had died: nothing
// that is in memory is stored any more, not at unmount either. Tests use it.
// ok is false if the store cannot do that.
func (f *FS) Shutdown() (ok bool) {
	s, ok := f.store.(interface{ Abandon() })
	if !ok {
		return false
	}
	f.log.Warn("shut down by ioctl: nothing is written any more, unmount to go on")
	f.down.Store(true)
	s.Abandon()
	return true
}

// refused reports whether a request gets EIO since the filesystem was shut
// down. What names nothing and what leads to the status goes on, so that it
// can be unmounted and looked at.
func (r *raw) refused(op uint32, in []byte) bool {
	if !r.fs.down.Load() {
		return false
	}
	inum := binary.NativeEndian.Uint64(in[16:])
	switch op {
	case opForget, opBatchForget, opInterrupt, opDestroy, opInit, opStatFS:
		return false
	case opLookup:
		if inum == ondisk.InumRoot {
			return string(in[lenInHeader:]) != controlDir+"\x00"
		}
	case opGetAttr:
		if inum == ondisk.InumRoot {
			return false
		}
	}
	return !r.ctl.owns(inum)
}
