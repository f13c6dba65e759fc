package advice

import (
	"fmt"
	"testing"

	"github.com/anvilfs/anvilfs/fs"
)

func TestTrees(t *testing.T) {
	tree := func(path string, q fs.Quota) Tree {
		return Tree{Path: path, Percent: q.Percent(), Quota: q}
	}
	mib := func(n uint64) string { return fmt.Sprint(n>>20, " MiB") }
	var many []Tree
	for i := range 7 {
		many = append(many, tree(fmt.Sprint("/", i), fs.Quota{Inodes: 10, MaxInodes: 10}))
	}
	for _, c := range []struct {
		name string
		all  []Tree
		want string
	}{
		{"no limits", []Tree{tree("/a", fs.Quota{Bytes: 1 << 40})}, "nothing"},
		{"room", []Tree{tree("/a", fs.Quota{Bytes: 89 << 20, MaxBytes: 100 << 20})}, "nothing"},
		{"near, and full", []Tree{tree("/a", fs.Quota{Bytes: 90 << 20, MaxBytes: 100 << 20}), tree("/b c", fs.Quota{Bytes: 10 << 20, MaxBytes: 10 << 20, Inodes: 3, MaxInodes: 9})},
			"warning /b c is full: 10 MiB of 10 MiB, 3 of 9 inodes.\n  risk Writers there get \"Disk quota exceeded\"; removing files works.\n" +
				"  type anvilfs du -d 1 --sort size '/mnt/b c'   (or anvilfs quota set '/mnt/b c' --bytes MORE)\n" +
				"note /a is nearly full: 90 MiB of 100 MiB.\n  type anvilfs du -d 1 --sort size /mnt/a"},
		{"inodes", []Tree{tree("/", fs.Quota{Bytes: 1 << 20, MaxBytes: 100 << 20, Inodes: 95, MaxInodes: 100})},
			"note / is nearly full: 1 MiB of 100 MiB, 95 of 100 inodes.\n  type anvilfs du -d 1 --sort inodes /mnt"},
		{"no block fits", []Tree{tree("/a", fs.Quota{Bytes: 970 << 10, MaxBytes: 1 << 20})},
			"warning /a is full: 0 MiB of 1 MiB.\n  risk Writers there get \"Disk quota exceeded\"; removing files works.\n" +
				"  type anvilfs du -d 1 --sort size /mnt/a   (or anvilfs quota set /mnt/a --bytes MORE)"},
	} {
		if got := show(Trees(Filled(c.all), "/mnt", mib)); got != c.want {
			t.Errorf("%s:\n%s", c.name, got)
		}
	}
	list := Trees(Filled(many), "/mnt", mib)
	if last := list[len(list)-1]; len(list) != 5 || last.What != "3 more directory trees are full, or nearly." || last.Level != Warning {
		t.Errorf("many: %+v", list)
	}
}
