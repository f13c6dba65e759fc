package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// Quotas and du of a read-only mount: its accounts are read as of the last commit,
// what has none is counted here.

// readOnly carries out a command on a mount that is read-only; dir is the path
// from the mount point, and name that for people.
func (v *quotaVerb) readOnly(w io.Writer, mnt, dir, name string, f *quotaWords) error {
	if v.name != "list" && v.name != "show" {
		return fmt.Errorf("%s is mounted read-only", mnt)
	}
	list, err := readTrees(mnt)
	if err != nil {
		return err
	}
	if v.name == "list" {
		return printQuotas(w, list, f)
	}
	for at := path.Clean(dir); ; at = path.Dir(at) {
		if i := slices.IndexFunc(list, func(t advice.Tree) bool { return t.Path == at }); i >= 0 {
			return printQuotas(w, list[i:i+1], f)
		}
		if at == "/" {
			return fmt.Errorf("%s is in no tree with a quota", name)
		}
	}
}

// readTrees are the accounts of a mount.
func readTrees(mnt string) ([]advice.Tree, error) {
	b, err := os.ReadFile(filepath.Join(mnt, ".anvilfs", "quotas.json"))
	if err != nil {
		return nil, mountError(mnt, err)
	}
	var list struct{ Quotas []advice.Tree }
	if err := rawjson.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", mnt, err)
	}
	return list.Quotas, nil
}

// readOnlyUse is du for directories of a mount that is read-only.
func readOnlyUse(w io.Writer, mnt string, dirs []string, f *quotaWords) error {
	if f.summarize {
		f.depth = 0
	}
	known, err := readTrees(mnt)
	if err != nil && !os.IsPermission(err) {
		return err // an ordinary user counts
	}
	began := time.Now()
	var list []fs.TreeUse
	for _, dir := range dirs {
		_, at, err := inMount(dir)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(known, func(t advice.Tree) bool { return t.Path == path.Clean(at) && quotaState(&t.Quota) == exact })
		if i >= 0 && f.depth == 0 && !f.apparent {
			list = append(list, fs.TreeUse{Path: path.Clean(dir), Bytes: known[i].Bytes, Inodes: known[i].Inodes, Known: true})
			continue
		}
		c := counting{f: f, seen: make(map[uint64]bool)}
		if err := c.count(dir); err != nil {
			return err
		}
		list = append(list, c.list...)
	}
	sortUse(list, f.sort)
	return printUse(w, list, f, time.Since(began))
}

// A counting counts a directory tree through the mount.
type counting struct {
	f    *quotaWords
	dev  uint64
	seen map[uint64]bool // files with several names
	list []fs.TreeUse
}

func (c *counting) count(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	c.dev = info.Sys().(*syscall.Stat_t).Dev
	dir = path.Clean(dir)
	top, err := c.tree(dir, info, 0)
	c.list = append(c.list, top)
	return err
}

// tree counts what is at a path; trees that are told apart are listed before.
func (c *counting) tree(at string, info os.FileInfo, depth int) (use fs.TreeUse, err error) {
	use.Path = at
	st := info.Sys().(*syscall.Stat_t)
	if st.Dev != c.dev || !info.IsDir() && st.Nlink > 1 && c.seen[st.Ino] {
		return use, nil
	}
	if !info.IsDir() && st.Nlink > 1 {
		c.seen[st.Ino] = true
	}
	use.Inodes, use.Bytes = 1, uint64(st.Blocks)*512
	if c.f.apparent {
		use.Bytes = uint64(st.Size)
	}
	if !info.IsDir() {
		return use, nil
	}
	entries, err := os.ReadDir(at)
	if err != nil {
		return use, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if os.IsNotExist(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return use, err
		}
		below, err := c.tree(at+"/"+e.Name(), info, depth+1)
		if err != nil {
			return use, err
		}
		if info.IsDir() && depth < c.f.depth {
			c.list = append(c.list, below)
		}
		use.Bytes, use.Inodes = use.Bytes+below.Bytes, use.Inodes+below.Inodes
	}
	return use, nil
}

// sortUse sorts trees as asked for.
func sortUse(list []fs.TreeUse, by string) {
	switch by {
	case "size":
		slices.SortStableFunc(list, func(a, b fs.TreeUse) int { return cmp.Compare(a.Bytes, b.Bytes) })
	case "inodes":
		slices.SortStableFunc(list, func(a, b fs.TreeUse) int { return cmp.Compare(a.Inodes, b.Inodes) })
	}
}
