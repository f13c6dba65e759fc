package salvage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// make makes anything but a directory.
func (c *copier) make(ctx context.Context, n *found) error {
	switch n.meta.Type {
	case ondisk.ObjFile:
		return c.file(ctx, n)
	case ondisk.ObjSymlink:
		target := make([]byte, min(n.meta.Size, ondisk.LogicalBlock))
		if err := c.content(ctx, n, func(p []byte, off int64) error {
			copy(target[min(off, int64(len(target))):], p)
			return nil
		}); err != nil {
			return err
		}
		if err := c.root.Symlink(string(target), n.name); err != nil {
			return err
		}
		c.rep.Others++
		c.dress(ctx, n)
		return nil
	}
	return c.special(ctx, n)
}

// special makes a device, FIFO or socket.
func (c *copier) special(ctx context.Context, n *found) error {
	kinds := map[ondisk.ObjType]uint32{
		ondisk.ObjFIFO: unix.S_IFIFO, ondisk.ObjSocket: unix.S_IFSOCK,
		ondisk.ObjChar: unix.S_IFCHR, ondisk.ObjBlock: unix.S_IFBLK,
	}
	kind, ok := kinds[n.meta.Type]
	if !ok {
		return fmt.Errorf("inode %d is of type %v, which has no like here", n.meta.Inum, n.meta.Type)
	}
	if (kind == unix.S_IFCHR || kind == unix.S_IFBLK) && !c.o.Owners {
		return errors.New("only root makes device files")
	}
	dir, err := c.root.Open(path.Dir(n.name)) // never outside, whatever was made there
	if err != nil {
		return err
	}
	defer dir.Close()
	dev := 0
	if kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		dev = int(unix.Mkdev(n.meta.RMajor, n.meta.RMinor))
	}
	if err := unix.Mknodat(int(dir.Fd()), path.Base(n.name), kind|0o600, dev); err != nil {
		return err
	}
	c.rep.Others++
	c.dress(ctx, n)
	return nil
}

// file copies content block by block: what cannot be read stays a hole.
func (c *copier) file(ctx context.Context, n *found) (err error) {
	f, err := c.root.OpenFile(n.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("exists in the directory already: give an empty one")
	}
	if err != nil {
		return err
	}
	err = c.content(ctx, n, func(p []byte, off int64) error {
		c.rep.Bytes += int64(len(p))
		_, err := f.WriteAt(p, off)
		return err
	})
	if terr := f.Truncate(int64(n.meta.Size)); err == nil {
		err = terr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	c.rep.Files++
	c.dress(ctx, n)
	return nil
}

// content hands out what there is of an inode's data, in order.
func (c *copier) content(ctx context.Context, n *found, put func(p []byte, off int64) error) error {
	size := n.meta.Size
	if n.meta.DirectData() {
		inline := n.block[ondisk.InodeSize-ondisk.InlineMax:]
		return put(inline[:min(size, uint64(len(inline)))], 0)
	}
	buf := make([]byte, ondisk.LogicalBlock)
	var failed error
	err := c.set.Scan(ctx, n.set, 0, size, func(r *ondisk.Blockref, err error) bool {
		if err != nil {
			c.gap(n, r.Key, min(r.LastKey(), size-1)+1, err)
			return true
		}
		if r.Type != ondisk.TypeData || r.Key >= size {
			return true
		}
		stored, err := c.set.Read(r)
		got := 0
		if err == nil {
			got, err = ondisk.DecodeData(r, stored, buf)
		}
		if err != nil {
			c.gap(n, r.Key, min(r.Key+ondisk.LogicalBlock, size), err)
			return true
		}
		failed = put(buf[:min(uint64(got), size-r.Key)], int64(r.Key))
		return failed == nil
	})
	return errors.Join(failed, err)
}

// gap tells that bytes [from, to) of a file are missing.
func (c *copier) gap(n *found, from, to uint64, err error) {
	if from < to {
		c.rep.Missing += int64(to - from)
		c.lost(n.name, fmt.Errorf("bytes %d to %d are missing: %w", from, to-1, err))
	}
}

// attrs sets the extended attributes of a file or directory.
func (c *copier) attrs(ctx context.Context, n *found) error {
	if n.meta.Type != ondisk.ObjFile && n.meta.Type != ondisk.ObjDir {
		return nil
	}
	a, err := c.attrsOf(ctx, n.meta.Inum)
	if a == nil {
		return err
	}
	a.name = n.name
	text := make([]byte, min(a.meta.Size, ondisk.XattrTotalMax))
	err = c.content(ctx, a, func(p []byte, off int64) error {
		copy(text[min(off, int64(len(text))):], p)
		return nil
	})
	if err != nil {
		return err
	}
	list, err := ondisk.DecodeXattrs(text)
	if err != nil {
		return err
	}
	f, err := c.root.Open(n.name)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, x := range list {
		if !c.o.Owners && !strings.HasPrefix(x.Name, "user.") {
			continue // root's
		}
		if xerr := unix.Fsetxattr(int(f.Fd()), x.Name, x.Value, 0); xerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", x.Name, xerr))
		}
	}
	return err
}

// treeAttrs finds attributes in the index of the PFS.
func (c *copier) treeAttrs(ctx context.Context, inum uint64) (*found, error) {
	ref, err := c.ref(ctx, ondisk.AttrBit|inum)
	if errors.Is(err, media.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := new(found)
	if a.meta, a.block, a.set, err = c.set.Inode(&ref); err != nil {
		return nil, err
	}
	return a, nil
}
