package merge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// substance is what makes an inode another than before, but for its data and
// attributes: not its times, names and where its content lies.
func substance(m *ondisk.InodeMeta) ondisk.InodeMeta {
	s := ondisk.InodeMeta{Type: m.Type, UID: m.UID, GID: m.GID, Mode: m.Mode, UFlags: m.UFlags, RMajor: m.RMajor, RMinor: m.RMinor,
		CompAlgo: m.CompAlgo, CheckAlgo: m.CheckAlgo}
	if m.Type != ondisk.ObjDir {
		s.Size = m.Size
	}
	return s
}

// setSubstance gives m the substance of from, and its times.
func setSubstance(m, from *ondisk.InodeMeta) {
	m.UID, m.GID, m.Mode, m.UFlags = from.UID, from.GID, from.Mode, from.UFlags
	m.RMajor, m.RMinor, m.CompAlgo, m.CheckAlgo = from.RMajor, from.RMinor, from.CompAlgo, from.CheckAlgo
	if m.Type != ondisk.ObjDir {
		m.Size = from.Size
		m.SetMtime(from.MtimeNs())
	}
}

// attrs are the attributes of an inode of a tree.
func attrs(ctx context.Context, v *chain.View, inum uint64) ([]ondisk.Xattr, error) {
	in, ok, err := v.Inode(ctx, ondisk.AttrBit|inum)
	if err != nil || !ok {
		return nil, err
	}
	if in.Meta.Size > ondisk.XattrTotalMax {
		return nil, fmt.Errorf("attributes of inode %d: %d bytes: %w", inum, in.Meta.Size, ondisk.ErrCorrupt)
	}
	b := make([]byte, in.Meta.Size)
	if err := v.ReadData(ctx, ondisk.AttrBit|inum, 0, b); err != nil {
		return nil, err
	}
	return ondisk.DecodeXattrs(b)
}

func sameAttrs(a, b []ondisk.Xattr) bool {
	return slices.EqualFunc(a, b, func(x, y ondisk.Xattr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
}

// inline is the inline content of a record.
func inline(in *chain.InodeRec) []byte { return in.Inline[:min(in.Meta.Size, uint64(len(in.Inline)))] }

var errStop = errors.New("enough was seen")

// dataKeys are the blocks of an inode in which a differs from b. Both have the
// inode, and its content in blocks. At most limit are found, 0 = all.
func dataKeys(ctx context.Context, a, b *chain.View, common ondisk.Tid, inum uint64, limit int) (keys []uint64, err error) {
	_, _, _, err = chain.Diff(ctx, a, b, common, chain.Cursor{Inum: inum}, chain.DiffLimits{Bare: true}, func(c chain.Change) error {
		switch {
		case c.Inum != inum || limit > 0 && len(keys) == limit:
			return errStop
		case c.Kind == chain.KindData:
			keys = append(keys, c.Key)
		}
		return nil
	}, func(chain.Touch) error { return nil })
	if errors.Is(err, errStop) {
		err = nil
	}
	return keys, err
}

// differs reports whether an inode that both trees have is another in a than in
// b; minor: only by its times.
func differs(ctx context.Context, a, b *chain.View, common ondisk.Tid, inum uint64) (yes, minor bool, err error) {
	x, ok, err := a.Inode(ctx, inum)
	if err != nil || !ok {
		return !ok, false, err
	}
	y, ok, err := b.Inode(ctx, inum)
	if err != nil || !ok {
		return !ok, false, err
	}
	if substance(&x.Meta) != substance(&y.Meta) {
		return true, false, nil
	}
	xa, err := attrs(ctx, a, inum)
	if err != nil {
		return false, false, err
	}
	ya, err := attrs(ctx, b, inum)
	if err != nil || !sameAttrs(xa, ya) {
		return err == nil, false, err
	}
	minor = x.Meta.Type != ondisk.ObjDir && (x.Meta.Mtime != y.Meta.Mtime)
	switch {
	case !hasData(x.Meta.Type):
		return minor, minor, nil
	case x.Meta.DirectData() != y.Meta.DirectData():
		return true, false, nil
	case x.Meta.DirectData():
		if !bytes.Equal(inline(x), inline(y)) {
			return true, false, nil
		}
		return minor, minor, nil
	}
	keys, err := dataKeys(ctx, a, b, common, inum, 1)
	if err != nil || len(keys) > 0 {
		return err == nil, false, err
	}
	return minor, minor, nil
}

func hasData(t ondisk.ObjType) bool { return t == ondisk.ObjFile || t == ondisk.ObjSymlink }

// equalNow reports whether inode x of a tree is what inode inum of the
// filesystem, which is locked, is now. Times do not count.
func equalNow(ctx context.Context, v *chain.View, x uint64, g *fs.Graft, inum uint64) (bool, error) {
	in, ok, err := v.Inode(ctx, x)
	if err != nil || !ok {
		return false, err
	}
	now, ok, err := g.Inode(ctx, inum)
	if err != nil || !ok || substance(&in.Meta) != substance(&now.Meta) {
		return false, err
	}
	a, err := attrs(ctx, v, x)
	if err != nil {
		return false, err
	}
	b, err := g.Attrs(ctx, inum)
	if err != nil || !sameAttrs(a, b) || !hasData(in.Meta.Type) {
		return err == nil && sameAttrs(a, b), err
	}
	p, q := make([]byte, chunk), make([]byte, chunk)
	for off := uint64(0); off < in.Meta.Size; off += chunk {
		n := min(chunk, in.Meta.Size-off)
		if err := errors.Join(v.ReadData(ctx, x, off, p[:n]), g.Read(ctx, inum, off, q[:n])); err != nil {
			return false, err
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// chunk is what is read at once, and written in one transaction of a large file.
const chunk = 1 << 20

// nameIn finds a name of an inode in a tree; ok is false if its record does not
// say where there is one.
func nameIn(ctx context.Context, v *chain.View, inum uint64) (dir uint64, s string, ok bool, err error) {
	in, found, err := v.Inode(ctx, inum)
	if err != nil || !found {
		return 0, "", false, err
	}
	dir = in.Meta.Iparent
	err = v.Dirents(ctx, dir, ondisk.DirBit, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		if d.Inum == inum {
			s, ok = d.Name, true
		}
		return !ok
	})
	if errors.Is(err, chain.ErrNoInode) {
		err = nil
	}
	return dir, s, ok, err
}
