package fs

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// BSD file flags as the media has them.
const (
	ufNodump    = 0x1
	ufImmutable = 0x2
	ufAppend    = 0x4
	sfImmutable = 0x20000
	sfAppend    = 0x40000

	flagsImmutable = ufImmutable | sfImmutable
	flagsAppend    = ufAppend | sfAppend
)

// Linux file flags, of chattr(1) and FS_IOC_GETFLAGS.
const (
	fsImmutable = 0x10
	fsAppend    = 0x20
	fsNodump    = 0x40
	fsKnown     = fsImmutable | fsAppend | fsNodump

	// xflags are the same in FS_IOC_FSGETXATTR's terms.
	xfImmutable = 0x8
	xfAppend    = 0x10
	xfNodump    = 0x80
)

// flagPairs says which media flags show as which Linux flag; the last of the
// media flags is the one a Linux caller sets, as root's it is the stronger.
var flagPairs = []struct{ media, set, linux, x uint32 }{
	{flagsImmutable, sfImmutable, fsImmutable, xfImmutable},
	{flagsAppend, sfAppend, fsAppend, xfAppend},
	{ufNodump, ufNodump, fsNodump, xfNodump},
}

// linuxFlags translates the flags of an inode.
func linuxFlags(media uint32) (flags, xflags uint32) {
	for _, p := range flagPairs {
		if media&p.media != 0 {
			flags |= p.linux
			xflags |= p.x
		}
	}
	return flags, xflags
}

// SetFlags sets an inode's Linux file flags; media flags without a Linux
// meaning stay.
func (f *FS) SetFlags(ctx context.Context, inum uint64, flags uint32) error {
	if flags&^fsKnown != 0 {
		return errNotHere
	}
	n, rec, err := f.lock(ctx, inum)
	if err != nil {
		return err
	}
	defer f.unlock(n)
	media := rec.Meta.UFlags
	for _, p := range flagPairs {
		switch {
		case flags&p.linux == 0:
			media &^= p.media
		case media&p.media == 0:
			media |= p.set
		}
	}
	if media == rec.Meta.UFlags {
		return nil
	}
	t, err := f.store.Begin(ctx, Cost{Leaves: 1})
	if err != nil {
		return err
	}
	defer t.End()
	f.update(t, n, func(m *ondisk.InodeMeta) {
		m.UFlags = media
		m.SetCtime(f.clock())
	})
	return nil
}

// flagsOfX translates FS_IOC_FSSETXATTR's flags.
func flagsOfX(xflags uint32) (flags uint32, ok bool) {
	for _, p := range flagPairs {
		if xflags&p.x != 0 {
			flags |= p.linux
			xflags &^= p.x
		}
	}
	return flags, xflags == 0
}
