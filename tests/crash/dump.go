package crash

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A dump is all that a filesystem shows.
type dump struct {
	short []string // what the model can tell too
	full  []string // with numbers and times
}

// contents are buffers for what files hold: a fresh one for each dump would be
// cleared for nothing.
var contents = sync.Pool{New: func() any { return new([]byte) }}

// A dumper walks a filesystem.
type dumper struct {
	ctx   context.Context
	f     *fs.FS
	first map[uint64]string
	buf   []byte // content of a file, of whatever was read before
	d     dump
}

func dumpFS(ctx context.Context, f *fs.FS) (*dump, error) {
	w := &dumper{ctx: ctx, f: f, first: make(map[uint64]string)}
	buf := contents.Get().(*[]byte)
	defer contents.Put(buf)
	w.buf = *buf
	defer func() { *buf = w.buf }()
	root, err := f.Stat(ctx, ondisk.InumRoot)
	if err == nil {
		err = w.inode("", root)
	}
	if err == nil {
		err = w.dir("", ondisk.InumRoot)
	}
	return &w.d, err
}

func (w *dumper) dir(path string, inum uint64) error {
	var list []ondisk.Dirent
	err := w.f.ReadDir(w.ctx, inum, 0, 1000, func(_ uint64, d *ondisk.Dirent) bool {
		if d.Name != "." && d.Name != ".." {
			list = append(list, *d)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("reading /%s: %w", path, err)
	}
	slices.SortFunc(list, func(a, b ondisk.Dirent) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	for _, d := range list {
		name := path + d.Name
		r, err := w.f.Stat(w.ctx, d.Inum)
		if err == nil && r.Meta.Type != d.Type {
			err = fmt.Errorf("type %d, the entry says %d", r.Meta.Type, d.Type)
		}
		if err == nil {
			err = w.inode(name, r)
		}
		if err == nil && d.Type == ondisk.ObjDir {
			err = w.dir(name+"/", d.Inum)
		}
		if err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
	}
	return nil
}

func (w *dumper) inode(path string, r *fs.Record) (err error) {
	m := &r.Meta
	e := entry{path: path, typ: m.Type, mode: m.Mode, size: m.Size, major: m.RMajor, minor: m.RMinor}
	if m.Type != ondisk.ObjDir {
		e.links = int(m.Nlinks)
		if w.first[m.Inum] == "" {
			w.first[m.Inum] = path
		}
		e.first = w.first[m.Inum]
	}
	switch m.Type {
	case ondisk.ObjDir:
		e.size = 0
	case ondisk.ObjSymlink:
		e.content, err = w.f.Readlink(w.ctx, m.Inum)
	case ondisk.ObjFile:
		if uint64(len(w.buf)) < m.Size {
			w.buf = make([]byte, m.Size)
		}
		e.content = w.buf[:m.Size]
		var n int
		if n, err = w.f.Read(w.ctx, m.Inum, 0, e.content); err == nil && n < len(e.content) {
			err = fmt.Errorf("%d bytes read of %d", n, len(e.content))
		}
	}
	if err != nil {
		return err
	}
	names, err := w.f.ListXattr(w.ctx, m.Inum)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		value, err := w.f.GetXattr(w.ctx, m.Inum, name)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		e.attrs += fmt.Sprintf(" %s=%.20q/%d", name, string(value), len(value))
	}
	props := ""
	if m.Type == ondisk.ObjFile || m.Type == ondisk.ObjDir {
		for _, name := range []string{fs.PropCompression, fs.PropCheck} {
			value, err := w.f.GetXattr(w.ctx, m.Inum, name)
			if err != nil {
				return fmt.Errorf("property %s: %w", name, err)
			}
			props += " " + string(value)
		}
	}
	line := e.String() // reads all of the content
	w.d.short = append(w.d.short, line)
	w.d.full = append(w.d.full, fmt.Sprintf("%s inode %d changed %s, %s links %d%s",
		line, m.Inum, stamp(m.MtimeNs()), stamp(m.CtimeNs()), m.Nlinks, props))
	return nil
}

func stamp(sec int64, nsec uint32) string { return fmt.Sprintf("%d.%09d", sec, nsec) }

func (d *dump) digest() uint64 { return ondisk.XXH64([]byte(strings.Join(d.full, "\n"))) }
