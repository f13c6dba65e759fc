package crash

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A call is a system call, or a few that show as one. do makes it, and changes
// the model alike; it works in the directory s.base.
type call struct {
	name string
	do   func(s *session, m *model) error
}

// errSkip: there is nothing to do that to.
var errSkip = errors.New("nothing to do it to")

// calls lists what is tried in pairs.
func calls() []call {
	return []call{
		{"create", callCreate},
		{"mkdir", callMkdir},
		{"link", callLink},
		{"symlink", callSymlink},
		{"mknod", callMknod},
		{"tmpfile", callTmpfile},
		{"rename", callRename},
		{"rename-over", callRenameOver},
		{"rename-dir", callRenameDir},
		{"exchange", callExchange},
		{"unlink", callUnlink},
		{"unlink-open", callUnlinkOpen},
		{"rmdir", callRmdir},
		{"write", callWrite},
		{"append", callAppend},
		{"overwrite", callOverwrite},
		{"big-write", callBigWrite},
		{"copy", callCopy},
		{"copy-shared", callCopyShared},
		{"truncate", func(s *session, m *model) error { return callResize(s, m, func(n int) int { return n / 3 }) }},
		{"extend", func(s *session, m *model) error { return callResize(s, m, func(n int) int { return n + 100_000 }) }},
		{"punch-hole", callPunch},
		{"set-attr", func(s *session, m *model) error { return callSetAttr(s, m, "a", 30) }},
		{"set-big-attr", func(s *session, m *model) error { return callSetAttr(s, m, "b", 5000) }},
		{"remove-attr", callRemoveAttr},
		{"chmod", callChmod},
		{"quota", callQuota},
		{"utimes", callUtimes},
		{"set-property", callSetProperty},
	}
}

// split takes a path apart.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// free is a name in dir, below the base, that is not taken. Without dir it is
// in the base.
func (s *session) free(m *model, dir, name string) (path string) {
	at := s.base
	if inum, ok := m.find(s.base + "/" + dir); ok && m.files[inum].typ == ondisk.ObjDir {
		at = strings.TrimSuffix(s.base+"/"+dir, "/")
	}
	for n := 0; ; n++ {
		path = fmt.Sprintf("%s/%s%d", at, name, n)
		if _, taken := m.find(path); !taken {
			return path
		}
	}
}

// some finds a name below the base whose file is as wanted, and is not one of
// inodes: first, if it is one.
func (s *session) some(m *model, first string, ok func(*file) bool, not ...uint64) (path string, inum uint64, err error) {
	for _, path := range append([]string{s.base + "/" + first}, m.paths()...) {
		inum, found := m.find(path)
		if found && strings.HasPrefix(path, s.base+"/") && ok(m.files[inum]) && !slices.Contains(not, inum) {
			return path, inum, nil
		}
	}
	return "", 0, errSkip
}

func regular(f *file) bool { return f.typ == ondisk.ObjFile }

// parent is the directory of a path, which exists, and the last name.
func parent(m *model, path string) (dir uint64, name string) {
	up, name := split(path)
	dir, _ = m.find(up)
	return dir, name
}

// make creates something under a path that is free.
func (s *session) make(m *model, path string, what fs.NewNode) (uint64, error) {
	dir, name := parent(m, path)
	r, err := s.f.Create(s.ctx, dir, name, what)
	if err != nil {
		return 0, err
	}
	inum := r.Meta.Inum
	s.f.Forget(inum, 1)
	m.files[inum] = &file{typ: what.Type, mode: what.Mode, content: []byte(what.Target), major: what.Major, minor: what.Minor}
	m.enter(dir, name, inum)
	return inum, nil
}

func callCreate(s *session, m *model) error {
	_, err := s.make(m, s.free(m, "d", "n"), fs.NewNode{Type: ondisk.ObjFile, Mode: 0o640})
	return err
}

func callMkdir(s *session, m *model) error {
	_, err := s.make(m, s.free(m, "d", "m"), fs.NewNode{Type: ondisk.ObjDir, Mode: 0o750})
	return err
}

func callSymlink(s *session, m *model) error {
	_, err := s.make(m, s.free(m, "", "t"), fs.NewNode{Type: ondisk.ObjSymlink, Mode: 0o777, Target: strings.Repeat("../a", 1+s.rnd.IntN(200))})
	return err
}

func callMknod(s *session, m *model) error {
	what := fs.NewNode{Type: ondisk.ObjFIFO, Mode: 0o600}
	if s.rnd.IntN(2) == 0 {
		what = fs.NewNode{Type: ondisk.ObjChar, Mode: 0o600, Major: 5, Minor: 1}
	}
	_, err := s.make(m, s.free(m, "", "p"), what)
	return err
}

func callLink(s *session, m *model) error {
	_, inum, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	return s.link(m, inum, s.free(m, "d", "l"))
}

func (s *session) link(m *model, inum uint64, path string) error {
	dir, name := parent(m, path)
	if _, err := s.f.Link(s.ctx, inum, dir, name); err != nil {
		return err
	}
	s.f.Forget(inum, 1)
	m.enter(dir, name, inum)
	return nil
}

// callTmpfile writes a file without a name, and then gives it one.
func callTmpfile(s *session, m *model) error {
	path := s.free(m, "", "u")
	dir, _ := parent(m, path)
	r, err := s.f.CreateUnnamed(s.ctx, dir, fs.NewNode{Type: ondisk.ObjFile, Mode: 0o600})
	if err != nil {
		return err
	}
	inum := r.Meta.Inum
	m.files[inum] = &file{typ: ondisk.ObjFile, mode: 0o600}
	if err := s.write(m, inum, 0, 3000); err != nil {
		return err
	}
	if err := s.link(m, inum, path); err != nil {
		return err
	}
	s.f.Forget(inum, 1)
	return nil
}

// rename moves a name, over another if that exists.
func (s *session) rename(m *model, from, to string, flags fs.RenameFlags) error {
	oldDir, oldName := parent(m, from)
	newDir, newName := parent(m, to)
	if err := s.f.Rename(s.ctx, oldDir, oldName, newDir, newName, flags); err != nil {
		return err
	}
	inum := m.files[oldDir].names[oldName]
	if flags&fs.RenameExchange != 0 {
		m.enter(oldDir, oldName, m.files[newDir].names[newName])
	} else {
		m.leave(oldDir, oldName)
	}
	m.enter(newDir, newName, inum)
	return nil
}

func callRename(s *session, m *model) error {
	from, _, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	return s.rename(m, from, s.free(m, "d", "r"), 0)
}

func callRenameOver(s *session, m *model) error {
	from, inum, err := s.some(m, "b", regular)
	if err != nil {
		return err
	}
	to, _, err := s.some(m, "a", regular, inum)
	if err != nil {
		return err
	}
	return s.rename(m, from, to, 0)
}

func callRenameDir(s *session, m *model) error {
	isDir := func(f *file) bool { return f.typ == ondisk.ObjDir }
	from, inum, err := s.some(m, "d", isDir)
	if err != nil {
		return err
	}
	to, _, err := s.some(m, "e", isDir, inum)
	if err != nil || strings.HasPrefix(to, from+"/") {
		return errSkip
	}
	return s.rename(m, from, s.free(m, strings.TrimPrefix(to, s.base+"/"), "q"), 0)
}

func callExchange(s *session, m *model) error {
	from, inum, err := s.some(m, "a", regular)
	if err != nil {
		return err
	}
	to, _, err := s.some(m, "d/c", regular, inum)
	if err != nil {
		return err
	}
	return s.rename(m, from, to, fs.RenameExchange)
}

func callUnlink(s *session, m *model) error {
	path, _, err := s.some(m, "b", regular)
	if err != nil {
		return err
	}
	dir, name := parent(m, path)
	m.leave(dir, name)
	return s.f.Unlink(s.ctx, dir, name)
}

// callUnlinkOpen removes a name of an open file, and writes to the file.
func callUnlinkOpen(s *session, m *model) error {
	path, inum, err := s.some(m, "d/c", regular)
	if err != nil {
		return err
	}
	dir, name := parent(m, path)
	if _, _, err := s.f.Lookup(s.ctx, dir, name); err != nil {
		return err
	}
	s.open = append(s.open, inum)
	m.leave(dir, name)
	if err := s.f.Unlink(s.ctx, dir, name); err != nil {
		return err
	}
	for _, path := range m.paths() {
		if other, _ := m.find(path); other == inum {
			return nil // it has another name, so a write would show: one call more
		}
	}
	return s.write(m, inum, 30_000, 70_000)
}

func callRmdir(s *session, m *model) error {
	path, _, err := s.some(m, "e", func(f *file) bool { return f.typ == ondisk.ObjDir && len(f.names) == 0 })
	if err != nil {
		return err
	}
	dir, name := parent(m, path)
	m.leave(dir, name)
	return s.f.Rmdir(s.ctx, dir, name)
}
