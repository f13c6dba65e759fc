package crash

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A file is an inode in the model. It does not change once it is in a model.
type file struct {
	typ          ondisk.ObjType
	mode         uint32
	content      []byte // of a symlink: its target
	major, minor uint32
	attrs        map[string]string
	names        map[string]uint64 // of a directory
}

// A model says what a filesystem should hold, by the numbers that it gave its
// inodes.
type model struct {
	files  map[uint64]*file
	snaps  map[string]snap
	policy string // of automatic snapshots; "" = none
}

// A snap is a snapshot in the model.
type snap struct {
	files map[uint64]*file
	held  string // by whom; "" = nobody
}

func newModel() *model {
	return &model{map[uint64]*file{ondisk.InumRoot: {typ: ondisk.ObjDir, mode: 0o755}}, make(map[string]snap), ""}
}

func (m *model) clone() *model { return &model{maps.Clone(m.files), maps.Clone(m.snaps), m.policy} }

// change replaces an inode by a changed copy.
func (m *model) change(inum uint64, fn func(*file)) {
	c := *m.files[inum]
	c.attrs, c.names = maps.Clone(c.attrs), maps.Clone(c.names)
	fn(&c)
	m.files[inum] = &c
}

func (m *model) enter(dir uint64, name string, inum uint64) {
	m.change(dir, func(f *file) {
		if f.names == nil {
			f.names = make(map[string]uint64)
		}
		f.names[name] = inum
	})
}

func (m *model) leave(dir uint64, name string) {
	m.change(dir, func(f *file) { delete(f.names, name) })
}

// resize makes content n bytes long.
func resize(content []byte, n int) []byte {
	c := make([]byte, n)
	copy(c, content)
	return c
}

func (f *file) write(off int, p []byte) {
	f.content = resize(f.content, max(len(f.content), off+len(p)))
	copy(f.content[off:], p)
}

// find follows a path of names separated by slashes.
func (m *model) find(path string) (inum uint64, ok bool) {
	inum, ok = ondisk.InumRoot, true
	for _, name := range strings.Split(path, "/") {
		if f := m.files[inum]; ok && name != "" {
			inum, ok = f.names[name]
		}
	}
	return inum, ok
}

// paths lists all names, a directory before what is in it.
func (m *model) paths() (list []string) {
	var walk func(inum uint64, path string)
	walk = func(inum uint64, path string) {
		names := m.files[inum].names
		for _, name := range slices.Sorted(maps.Keys(names)) {
			list = append(list, path+name)
			walk(names[name], path+name+"/")
		}
	}
	walk(ondisk.InumRoot, "")
	return list
}

// lines describe the model, one name each.
func (m *model) lines() (list []string) {
	links := make(map[uint64][]string)
	paths := m.paths()
	for _, path := range paths {
		inum, _ := m.find(path)
		links[inum] = append(links[inum], path)
	}
	for _, path := range append([]string{""}, paths...) {
		inum, _ := m.find(path)
		f := m.files[inum]
		e := entry{path: path, typ: f.typ, mode: f.mode, size: uint64(len(f.content)), content: f.content, major: f.major, minor: f.minor}
		if f.typ != ondisk.ObjDir {
			e.links, e.first = len(links[inum]), links[inum][0]
		}
		for _, name := range slices.Sorted(maps.Keys(f.attrs)) {
			e.attrs += fmt.Sprintf(" %s=%.20q/%d", name, f.attrs[name], len(f.attrs[name]))
		}
		list = append(list, e.String())
	}
	if m.policy != "" {
		list = append(list, m.policy)
	}
	for _, name := range slices.Sorted(maps.Keys(m.snaps)) {
		sn := m.snaps[name]
		list = append(list, snapLine(name, sn.held, (&model{files: sn.files}).lines()))
	}
	return list
}

// snapLine describes a snapshot by what it shows.
func snapLine(name, held string, lines []string) string {
	return fmt.Sprintf("snapshot %s held by %q: %d names, sum %x", name, held, len(lines), ondisk.XXH64([]byte(strings.Join(lines, "\n"))))
}

// An entry is a name and what it leads to, as the model and the filesystem
// both can tell.
type entry struct {
	path, first  string // first is the first name of the same file
	typ          ondisk.ObjType
	mode         uint32
	links        int // 0 for directories
	size         uint64
	content      []byte
	major, minor uint32
	attrs        string
}

func (e *entry) String() string {
	return fmt.Sprintf("/%s type %d mode %04o links %d first %q size %d sum %x device %d:%d%s",
		e.path, e.typ, e.mode, e.links, e.first, e.size, ondisk.XXH64(e.content), e.major, e.minor, e.attrs)
}

// differ says in a few words how two sorted descriptions differ, "" if not.
func differ(want, got []string) string {
	var list []string
	for _, w := range want {
		if !slices.Contains(got, w) {
			list = append(list, "missing: "+w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			list = append(list, "too much: "+g)
		}
	}
	if len(list) > 8 {
		list = append(list[:8], fmt.Sprintf("and %d more", len(list)-8))
	}
	return strings.Join(list, "\n\t\t")
}
