package salvage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
)

// maxNesting bounds paths: damaged directories may contain each other.
const maxNesting = 256

// Options say what is copied.
type Options struct {
	Label   string // of the PFS or snapshot; "" = the only one
	Path    string // what to copy, with all below; "" or "/" = everything
	Slot    int    // header slot to start from; negative = the one in use
	Orphans bool   // also inodes that no entry names, as lost+found/#NUMBER
	Owners  bool   // set owners, make devices: needs root

	// Lost is called for everything that could not be copied, wholly or in
	// part.
	Lost func(path string, err error)
}

// A Report counts what was copied.
type Report struct {
	Files, Dirs, Links, Others int
	Bytes                      int64 // of files, holes not counted
	Lost                       int   // calls of Options.Lost
	Missing                    int64 // bytes of files that could not be read
}

// Errors of what was asked.
var (
	ErrNoPFS  = errors.New("no such PFS or snapshot")
	ErrRoot   = errors.New("its root cannot be read")
	ErrOlder  = errors.New("what is copied is older")
	ErrNoSlot = errors.New("no valid header in that slot")
)

// Copy copies files from the volume on devs to dir, which exists. It fails only
// if nothing can be copied at all, dir cannot be written, or ctx ends.
func Copy(ctx context.Context, devs []ondisk.Device, dir string, o Options) (rep Report, err error) {
	c, err := open(ctx, devs, dir, o, &rep)
	if err != nil {
		return rep, err
	}
	defer c.root.Close()
	at, err := c.pick(ctx)
	if err != nil {
		return rep, err
	}
	c.pfs = &at.PFS
	inum, err := c.resolve(ctx, o.Path)
	if err != nil {
		return rep, err
	}
	name := "."
	if clean := path.Clean("/" + o.Path); clean != "/" {
		name = path.Base(clean)
	}
	if err := c.inode(ctx, inum, name, nil); err != nil {
		return rep, err
	}
	if o.Orphans {
		err = c.orphans(ctx)
	}
	return rep, err
}

// open reads the headers of devs and enters dir.
func open(ctx context.Context, devs []ondisk.Device, dir string, o Options, rep *Report) (*copier, error) {
	set, err := media.Open(devs)
	if err != nil {
		return nil, err
	}
	hdr, err := header(set, o.Slot)
	if err != nil {
		return nil, err
	}
	c := &copier{set: set, hdr: hdr, o: o, rep: rep, done: make(map[uint64]string)}
	if o.Slot < 0 && hdr.WrittenByUs() {
		if err := c.replay(ctx, devs); err != nil {
			return nil, err
		}
		c.hdr = c.set.Header()
	}
	c.attrsOf = c.treeAttrs
	c.root, err = os.OpenRoot(dir)
	return c, err
}

// A copier is one Copy.
type copier struct {
	set  *media.Set
	hdr  *ondisk.VolumeHeader // where it begins
	o    Options
	rep  *Report
	pfs  *media.PFS
	root *os.Root
	done map[uint64]string // inodes copied, by number: their first path

	// attrsOf finds the attribute inode of an inode; nil: it has none.
	attrsOf func(ctx context.Context, inum uint64) (*found, error)
}

func (c *copier) lost(at string, err error) {
	c.rep.Lost++
	if c.o.Lost != nil {
		c.o.Lost(at, err)
	}
}

// ref finds an inode.
func (c *copier) ref(ctx context.Context, inum uint64) (ondisk.Blockref, error) {
	if inum == ondisk.InumRoot {
		return c.pfs.Ref, nil
	}
	return c.set.Find(ctx, c.pfs.Set, inum)
}

// resolve follows a path from the root directory.
func (c *copier) resolve(ctx context.Context, name string) (uint64, error) {
	at := uint64(ondisk.InumRoot)
	for word := range strings.SplitSeq(name, "/") {
		if word == "" {
			continue
		}
		ref, err := c.ref(ctx, at)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		_, _, set, err := c.set.Inode(&ref)
		if err != nil && len(set) == 0 {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		next := uint64(0)
		err = c.entries(ctx, set, func(d *ondisk.Dirent, err error) {
			if err == nil && d.Name == word {
				next = d.Inum
			}
		})
		if err != nil {
			return 0, err
		}
		if next == 0 {
			return 0, fmt.Errorf("%s: %q: %w", name, word, fs.ErrNotExist)
		}
		at = next
	}
	return at, nil
}

// entries calls fn for the entries of a directory, and for the damage in it.
func (c *copier) entries(ctx context.Context, set []ondisk.Blockref, fn func(*ondisk.Dirent, error)) error {
	return c.set.Scan(ctx, set, ondisk.DirBit, ^uint64(0), func(r *ondisk.Blockref, err error) bool {
		if err != nil || r.Type != ondisk.TypeDirent {
			if err != nil {
				fn(nil, err)
			}
			return true
		}
		d, err := c.set.Dirent(r)
		fn(&d, err)
		return true
	})
}

// inode copies one with all below it to name, which is relative to the root.
// above holds the directories it is in.
func (c *copier) inode(ctx context.Context, inum uint64, name string, above []uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if first, ok := c.done[inum]; ok && name != "." {
		if err := c.root.Link(first, name); err != nil {
			c.lost(name, err)
		} else {
			c.rep.Links++
		}
		return nil
	}
	ref, err := c.ref(ctx, inum)
	if err != nil {
		c.lost(name, fmt.Errorf("inode %d: %w", inum, err))
		return nil
	}
	meta, block, set, err := c.set.Inode(&ref)
	if err != nil && (meta.Inum == 0 || len(set) == 0 && !meta.DirectData()) {
		c.lost(name, fmt.Errorf("inode %d: %w", inum, err))
		return nil
	}
	if err != nil {
		c.lost(name, fmt.Errorf("inode %d, in part: %w", inum, err))
	}
	n := &found{meta: meta, block: block, set: set, name: name}
	if meta.Type == ondisk.ObjDir {
		return c.dir(ctx, n, above)
	}
	if err := c.make(ctx, n); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.lost(name, err)
		return nil
	}
	c.done[inum] = name
	return nil
}

// A found is an inode on the media, and where it goes.
type found struct {
	meta  ondisk.InodeMeta
	block []byte
	set   []ondisk.Blockref
	name  string
}

// dir makes a directory and copies what is in it.
func (c *copier) dir(ctx context.Context, n *found, above []uint64) error {
	for _, a := range above {
		if a == n.meta.Inum {
			c.lost(n.name, fmt.Errorf("directory %d contains itself: %w", a, ondisk.ErrCorrupt))
			return nil
		}
	}
	if len(above) == maxNesting {
		c.lost(n.name, fmt.Errorf("directories are nested too deeply: %w", ondisk.ErrCorrupt))
		return nil
	}
	if n.name != "." {
		if err := c.root.Mkdir(n.name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			c.lost(n.name, err)
			return nil
		}
	}
	c.rep.Dirs++
	above = append(above, n.meta.Inum)
	var inner error
	err := c.entries(ctx, n.set, func(d *ondisk.Dirent, err error) {
		switch {
		case inner != nil:
		case err != nil:
			c.lost(n.name, fmt.Errorf("entries are missing: %w", err))
		case d.Name == "" || d.Name == "." || d.Name == ".." || strings.ContainsAny(d.Name, "/\x00"):
			c.lost(n.name, fmt.Errorf("%q is no name of a file: %w", d.Name, ondisk.ErrCorrupt))
		default:
			inner = c.inode(ctx, d.Inum, path.Join(n.name, d.Name), above)
		}
	})
	if err = errors.Join(inner, err); err != nil {
		return err
	}
	if n.name != "." {
		c.dress(ctx, n)
	}
	return nil
}

// dress gives a copy its mode, owner, attributes and times.
func (c *copier) dress(ctx context.Context, n *found) {
	m := &n.meta
	if c.o.Owners {
		if err := c.root.Lchown(n.name, int(m.UID), int(m.GID)); err != nil {
			c.lost(n.name, err)
		}
	}
	if m.Type == ondisk.ObjSymlink {
		return // its mode means nothing, and its times are not worth following it
	}
	mode := fs.FileMode(m.Mode & 0o777)
	if c.o.Owners {
		mode |= special(m.Mode)
	}
	if err := c.root.Chmod(n.name, mode); err != nil {
		c.lost(n.name, err)
	}
	if err := c.attrs(ctx, n); err != nil {
		c.lost(n.name, fmt.Errorf("attributes: %w", err))
	}
	sec, nsec := m.MtimeNs()
	at := time.Unix(sec, int64(nsec))
	if err := c.root.Chtimes(n.name, at, at); err != nil {
		c.lost(n.name, err)
	}
}

// special translates setuid, setgid and sticky.
func special(mode uint32) (out fs.FileMode) {
	for _, s := range []struct {
		bit uint32
		to  fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&s.bit != 0 {
			out |= s.to
		}
	}
	return out
}

// orphans copies the inodes that no entry led to.
func (c *copier) orphans(ctx context.Context) error {
	const dir = lostFound
	made := false
	var inner error
	err := c.set.Scan(ctx, c.pfs.Set, ondisk.InumFirst, ondisk.AttrBit-1, func(r *ondisk.Blockref, err error) bool {
		if err != nil || r.Type != ondisk.TypeInode {
			return true // told where entries led to it, or nobody's
		}
		if _, ok := c.done[r.Key]; ok {
			return true
		}
		meta, _, _, err := c.set.Inode(r)
		if err != nil || meta.Type == ondisk.ObjDir {
			return true // the files of a lost directory come one by one
		}
		if !made {
			if made, inner = true, c.root.Mkdir(dir, 0o700); errors.Is(inner, fs.ErrExist) {
				inner = nil
			}
		}
		if inner == nil {
			inner = c.inode(ctx, r.Key, path.Join(dir, fmt.Sprintf("#%d", r.Key)), nil)
		}
		return inner == nil
	})
	return errors.Join(inner, err)
}
