package main

import (
	"cmp"
	"io"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/anvilfs/anvilfs/fs"
)

// countUse is du for directories that the server is not asked about: in snapshots, or
// by users who may not ask it.
func countUse(w io.Writer, dirs []string, f *quotaWords) error {
	if f.summarize {
		f.depth = 0
	}
	began := time.Now()
	var list []fs.TreeUse
	for _, dir := range dirs {
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
