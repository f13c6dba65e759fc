package repair

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A cluster is three members that a test makes wrong and puts right.
type testCluster struct {
	*testing.T
	ctx   context.Context
	world *rig.World
}

func newCluster(t *testing.T) *testCluster {
	t.Helper()
	w, err := rig.New(t.Context(), 3, 0, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	return &testCluster{t, t.Context(), w}
}

// use opens the filesystem for fn and closes it.
func (c *testCluster) use(fn func(fs.Store)) {
	c.Helper()
	p, err := cluster.OpenPool(c.ctx, c.world.Specs(), cluster.Options{Label: rig.Label})
	if err != nil {
		c.Fatal(err)
	}
	fn(fs.OnPool(p))
	if err := p.Close(c.ctx); err != nil {
		c.Fatal(err)
	}
}

// change makes one transaction.
func (c *testCluster) change(fn func(t fs.Txn) error) {
	c.Helper()
	c.use(func(s fs.Store) {
		t, err := s.Begin(c.ctx, fs.Cost{Leaves: 100})
		if err != nil {
			c.Fatal(err)
		}
		err = fn(t)
		t.End()
		if err == nil {
			err = s.Sync(c.ctx)
		}
		if err != nil {
			c.Fatal(err)
		}
	})
}

func (c *testCluster) check() *fsck.Report {
	c.Helper()
	var first *fsck.Report
	for _, m := range c.world.Members {
		rep, err := fsck.Check(c.ctx, []ondisk.Device{m.Copy()}, fsck.Options{})
		if err != nil {
			c.Fatal(err)
		}
		if first == nil {
			first = rep
		}
		if fmt.Sprint(rep.Fixes) != fmt.Sprint(first.Fixes) {
			c.Errorf("members ask for different fixes: %v and %v", rep.Fixes, first.Fixes)
		}
	}
	return first
}

// names lists a directory: name, number and type.
func (c *testCluster) names(s fs.Store, dir uint64) (list []string) {
	err := s.ReadDir(c.ctx, dir, 0, func(d ondisk.Dirent) bool {
		list = append(list, fmt.Sprintf("%s %d %v", d.Name, d.Inum, d.Type))
		return true
	})
	if err != nil {
		c.Error(err)
	}
	return list
}

func inode(inum uint64, typ ondisk.ObjType, edit func(*ondisk.InodeMeta)) *fs.Record {
	m := ondisk.NewInodeMeta(inum, typ)
	m.Mode, m.Nlinks, m.Iparent = 0o644, 1, ondisk.InumRoot
	if edit != nil {
		edit(&m)
	}
	return &fs.Record{Meta: m}
}

// wrongs are filesystems in which one thing does not fit, what is named in
// lost+found when it is put right, and whether the names 'dir' and 'file' stay.
var wrongs = []struct {
	name string
	make func(t fs.Txn) error
	lost string
}{
	{"dangling name", func(t fs.Txn) error { return t.AddDirent(2000, "gone", 1999, ondisk.ObjFile) }, ""},
	{"name of what has none", func(t fs.Txn) error { return t.AddDirent(1, "own", ondisk.InumCluster, ondisk.ObjFile) }, ""},
	{"lost file", func(t fs.Txn) error { t.PutInode(inode(3000, ondisk.ObjFile, nil)); return nil }, "[#3000 3000 file]"},
	{"lost directory", func(t fs.Txn) error {
		t.PutInode(inode(3000, ondisk.ObjDir, nil))
		t.PutInode(inode(3001, ondisk.ObjFile, func(m *ondisk.InodeMeta) { m.Iparent = 3000 }))
		return t.AddDirent(3000, "inside", 3001, ondisk.ObjFile)
	}, "[#3000 3000 dir]"},
	{"loop", func(t fs.Txn) error {
		t.PutInode(inode(3000, ondisk.ObjDir, func(m *ondisk.InodeMeta) { m.Iparent = 3001 }))
		t.PutInode(inode(3001, ondisk.ObjDir, func(m *ondisk.InodeMeta) { m.Iparent = 3000 }))
		if err := t.AddDirent(3000, "b", 3001, ondisk.ObjDir); err != nil {
			return err
		}
		return t.AddDirent(3001, "a", 3000, ondisk.ObjDir)
	}, "[#3000 3000 dir]"},
	{"too many links", func(t fs.Txn) error {
		t.PutInode(inode(2001, ondisk.ObjFile, func(m *ondisk.InodeMeta) { m.Iparent, m.Nlinks = 2000, 7 }))
		return nil
	}, ""},
	{"too few links", func(t fs.Txn) error { return t.AddDirent(1, "second", 2001, ondisk.ObjFile) }, ""},
	{"wrong type", func(t fs.Txn) error { return t.ReplaceDirent(2000, "file", 2001, ondisk.ObjFIFO) }, ""},
	{"wrong parent", func(t fs.Txn) error {
		t.PutInode(inode(2000, ondisk.ObjDir, func(m *ondisk.InodeMeta) { m.Iparent = 2001 }))
		return nil
	}, ""},
	{"attributes of nobody", func(t fs.Txn) error {
		r := inode(ondisk.AttrBit|1999, ondisk.ObjFile, func(m *ondisk.InodeMeta) { m.OpFlags, m.Size, m.Iparent = ondisk.OpDirectData, 16, 1999 })
		r.Inline = append([]byte("ANVXATR1"), make([]byte, 8)...)
		t.PutInode(r)
		return nil
	}, ""},
	{"orphan", func(t fs.Txn) error {
		t.PutInode(inode(3000, ondisk.ObjFile, func(m *ondisk.InodeMeta) { m.Nlinks = 0 }))
		return nil
	}, ""},
	{"two things", func(t fs.Txn) error {
		t.PutInode(inode(3000, ondisk.ObjFile, func(m *ondisk.InodeMeta) { m.Nlinks = 5 }))
		return t.AddDirent(2000, "gone", 1999, ondisk.ObjFile)
	}, "[#3000 3000 file]"},
}

func TestApply(t *testing.T) {
	for _, w := range wrongs {
		t.Run(w.name, func(t *testing.T) {
			c := newCluster(t)
			c.change(func(t fs.Txn) error {
				t.PutInode(inode(2000, ondisk.ObjDir, nil))
				t.PutInode(inode(2001, ondisk.ObjFile, func(m *ondisk.InodeMeta) { m.Iparent = 2000 }))
				if err := t.AddDirent(1, "dir", 2000, ondisk.ObjDir); err != nil {
					return err
				}
				return t.AddDirent(2000, "file", 2001, ondisk.ObjFile)
			})
			if rep := c.check(); len(rep.Fixes) > 0 || !rep.Clean() {
				t.Fatalf("wrong from the start: %v, %v", rep.Findings, rep.Fixes)
			}
			c.change(w.make)
			fixes := c.check().Fixes
			if len(fixes) == 0 {
				t.Fatal("nothing is found")
			}
			c.putRight(fixes, w.lost)
		})
	}
}

// putRight makes the fixes, twice, and looks at what is there then.
func (c *testCluster) putRight(fixes []fsck.Fix, lost string) {
	c.Helper()
	c.use(func(s fs.Store) {
		for turn := range 2 {
			made := 0
			if err := Apply(c.ctx, s, fixes, time.Unix(1, 2), func(fsck.Fix) { made++ }); err != nil {
				c.Fatal(err)
			}
			if turn == 0 && made != len(fixes) || turn == 1 && made > 0 {
				c.Errorf("turn %d: %d of %v", turn+1, made, fixes)
			}
		}
		if d, ok, err := s.Lookup(c.ctx, 2000, "file"); err != nil || !ok || d.Inum != 2001 {
			c.Errorf("dir/file: %+v %v %v", d, ok, err)
		}
		dir, ok, err := s.Lookup(c.ctx, ondisk.InumRoot, lostFound)
		if err != nil || ok != (lost != "") {
			c.Fatalf("lost+found: %v, %v", ok, err)
		}
		if ok {
			if got := fmt.Sprint(c.names(s, dir.Inum)); got != lost {
				c.Errorf("in lost+found: %s, not %s", got, lost)
			}
		}
		if err := s.Sync(c.ctx); err != nil {
			c.Error(err)
		}
	})
	if rep := c.check(); !rep.Clean() || len(rep.Fixes) > 0 {
		c.Errorf("left: %v, %v", rep.Findings, rep.Fixes)
	}
}

// A list that is out of date changes nothing that is right.
func TestOldList(t *testing.T) {
	c := newCluster(t)
	c.change(func(t fs.Txn) error {
		t.PutInode(inode(2001, ondisk.ObjFile, nil))
		return t.AddDirent(1, "file", 2001, ondisk.ObjFile)
	})
	c.use(func(s fs.Store) {
		for _, f := range []fsck.Fix{
			{Kind: fsck.FixName, Inum: 2001, Dir: 1},
			{Kind: fsck.FixType, Inum: 2001, Dir: 1, Type: ondisk.ObjDir},
			{Kind: fsck.FixDelete, Inum: 2001},
			{Kind: fsck.FixLinks, Inum: 2001, Links: 1},
			{Kind: fsck.FixAttach, Inum: 5000},
			{Kind: fsck.FixAttach, Inum: 2001, Dir: 2001},
		} {
			err := Apply(c.ctx, s, []fsck.Fix{f}, time.Now(), func(f fsck.Fix) { t.Errorf("made: %v", f) })
			if err != nil {
				t.Errorf("%v: %v", f, err)
			}
		}
		// A number that could be handed out again comes first, and alone.
		var made []fsck.Fix
		list := []fsck.Fix{{Kind: fsck.FixLinks, Inum: 2001, Links: 2}, {Kind: fsck.FixHighest, Inum: 2001}}
		if err := Apply(c.ctx, s, list, time.Now(), func(f fsck.Fix) { made = append(made, f) }); err != nil || len(made) != 1 || made[0] != list[1] {
			t.Errorf("made %v of %v: %v", made, list, err)
		}
		if err := Apply(c.ctx, s, []fsck.Fix{{Kind: 99, Inum: 2001}}, time.Now(), func(fsck.Fix) {}); err == nil {
			t.Error("a fix that nobody knows is made")
		}
	})
	if rep := c.check(); !rep.Clean() {
		t.Error(rep.Findings)
	}
}
