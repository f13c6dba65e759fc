package advice

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Tree is a directory tree with an account, and its path from the mount point.
type Tree struct {
	Path    string `json:"path"`
	Percent int    `json:"percent"` // of the nearer limit, 0 without
	fs.Quota
}

// A Fill is how near a tree is to its limits.
type Fill int

// The fills, best first.
const (
	Room Fill = iota
	Near      // nearTrees per cent of a limit, or more
	Full      // a block of a file, or one more inode, does not fit
)

const (
	nearTrees = 90 // per cent
	// slackTrees is how many per cent a tree has to fall below a border before
	// events say so: one that is at it for hours is told of once.
	slackTrees = 2
	// treesTold is how many trees are told of one by one.
	treesTold = 4
)

// Fill is how near the tree is to its limits.
func (t *Tree) Fill() Fill {
	switch {
	case t.MaxInodes > 0 && t.Inodes >= t.MaxInodes, t.MaxBytes > 0 && t.Bytes >= t.MaxBytes:
		return Full
	case t.Percent < nearTrees:
		return Room
	case t.MaxBytes > 0 && t.MaxBytes-t.Bytes < ondisk.LogicalBlock:
		return Full
	}
	return Near
}

// FillSince is Fill for who knows what it was before: a tree that moves about
// at a border stays what it was.
func (t *Tree) FillSince(before Fill) Fill {
	now := t.Fill()
	switch {
	case now >= before:
		return now
	case before == Full && t.Percent >= 100-slackTrees:
		return Full
	case t.Percent >= nearTrees-slackTrees && t.MaxBytes+t.MaxInodes > 0:
		return max(now, Near)
	}
	return now
}

// Filled are those of the trees that are near their limits, the fullest first.
func Filled(all []Tree) (list []Tree) {
	for i := range all {
		if all[i].Fill() != Room {
			list = append(list, all[i])
		}
	}
	slices.SortStableFunc(list, func(a, b Tree) int {
		return cmp.Or(cmp.Compare(b.Fill(), a.Fill()), cmp.Compare(b.Percent, a.Percent), cmp.Compare(a.Path, b.Path))
	})
	return list
}

// Trees is advice on trees near their limits, of a mount at dir.
func Trees(filled []Tree, dir string, size func(uint64) string) (list []Advice) {
	told := filled[:min(len(filled), treesTold)]
	for i := range told {
		t := &told[i]
		at := quote(path.Join(dir, t.Path))
		look := "anvilfs du -d 1 --sort size " + at
		if t.inodesFirst() {
			look = "anvilfs du -d 1 --sort inodes " + at
		}
		if t.Fill() == Full {
			list = append(list, Advice{Warning, t.Path + " is full: " + t.use(size) + ".",
				"Writers there get \"Disk quota exceeded\"; removing files works.", "", look + "   (or anvilfs quota set " + at + t.more() + ")"})
			continue
		}
		list = append(list, Advice{Note, t.Path + " is nearly full: " + t.use(size) + ".", "", "", look})
	}
	if more := len(filled) - len(told); more > 0 {
		list = append(list, Advice{told[len(told)-1].level(), fmt.Sprintf("%d more directory trees are full, or nearly.", more),
			"", "", "anvilfs quota list " + quote(dir)})
	}
	return list
}

func (t *Tree) level() Level {
	if t.Fill() == Full {
		return Warning
	}
	return Note
}

// inodesFirst reports whether the limit of inodes is the nearer one.
func (t *Tree) inodesFirst() bool {
	return t.MaxInodes > 0 && (t.MaxBytes == 0 || float64(t.Inodes)/float64(t.MaxInodes) > float64(t.Bytes)/float64(t.MaxBytes))
}

// use is what it takes, of what it may.
func (t *Tree) use(size func(uint64) string) string {
	var parts []string
	if t.MaxBytes > 0 {
		parts = append(parts, size(t.Bytes)+" of "+size(t.MaxBytes))
	}
	if t.MaxInodes > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d inodes", t.Inodes, t.MaxInodes))
	}
	return strings.Join(parts, ", ")
}

// more is the flag that raises the limit that is reached.
func (t *Tree) more() string {
	if t.inodesFirst() {
		return " --inodes MORE"
	}
	return " --bytes MORE"
}
