package fs

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

// What a call of this package may refuse, as the error number it becomes.
// The packages below know no error numbers.
const (
	errExist     = syscall.EEXIST
	errNoEntry   = syscall.ENOENT
	errNotDir    = syscall.ENOTDIR
	errIsDir     = syscall.EISDIR
	errNotEmpty  = syscall.ENOTEMPTY
	errInvalid   = syscall.EINVAL
	errStale     = syscall.ESTALE
	errPerm      = syscall.EPERM
	errTooLong   = syscall.ENAMETOOLONG
	errTooBig    = syscall.EFBIG
	errTooMany   = syscall.EMLINK
	errNoAttr    = syscall.ENODATA
	errRange     = syscall.ERANGE
	errNoData    = syscall.ENXIO
	errNoSpace   = syscall.ENOSPC
	errReadOnly  = syscall.EROFS
	errNotHere   = syscall.EOPNOTSUPP
	errUnknown   = syscall.ENOSYS
	errBadIoctl  = syscall.ENOTTY
	errIO        = syscall.EIO
	errAccess    = syscall.EACCES
	errInterrupt = syscall.EINTR
	errQuota     = syscall.EDQUOT
	errOtherTree = syscall.EXDEV
	errBusy      = syscall.EBUSY
)

// errnoTable maps the errors of the packages below.
var errnoTable = []struct {
	err error
	no  syscall.Errno
}{
	{cluster.ErrNoSpace, errNoSpace},
	{cluster.ErrHashFull, errNoSpace},
	{cluster.ErrNoEntry, errNoEntry},
	{cluster.ErrNoSnapshot, errNoEntry},
	{cluster.ErrSnapshotExists, errExist},
	{cluster.ErrReadOnly, errReadOnly},
	{cluster.ErrStale, errStale},
	{cluster.ErrNoQuorum, errIO},
	{cluster.ErrPoolClosed, errIO},
	{errors.ErrUnsupported, errNotHere},
	{ondisk.ErrCorrupt, errIO},
	{context.Canceled, errInterrupt},
	{context.DeadlineExceeded, errIO},
}

// Errno is the error number for err; 0 for nil, EIO for what nobody named.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	for _, e := range errnoTable {
		if errors.Is(err, e.err) {
			return e.no
		}
	}
	return errIO
}

// status answers the kernel, and logs what a user will ask about: media or
// quorum errors, which are nobody's ordinary business.
func (r *raw) status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	no := Errno(err)
	if no == errIO {
		r.log.Warn("request failed", "error", err)
	}
	return fuse.Status(no)
}
