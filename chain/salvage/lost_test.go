package salvage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

var bg = context.Background()

// A grown is a volume of some commits, and the files of each of its PFSs after
// each of them.
type grown struct {
	dev   *memdev.Device
	files map[string][]map[string]string
}

// grow makes a volume of PFSs that each get files of the same numbers, some in
// the root and some in a directory. Those of later PFSs are newer.
func grow(t *testing.T, size int64, commits int, labels ...string) *grown {
	t.Helper()
	g := &grown{dev: memdev.New(size), files: make(map[string][]map[string]string)}
	var specs []chain.PFSSpec
	for _, l := range labels {
		specs = append(specs, chain.PFSSpec{Label: l})
	}
	if _, err := chain.Format(bg, []ondisk.Device{g.dev}, chain.FormatOptions{Labels: specs}); err != nil {
		t.Fatal(err)
	}
	v, err := chain.Open(bg, []ondisk.Device{g.dev}, chain.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range commits {
		txn, err := v.Begin(bg)
		for i, l := range labels {
			if err == nil {
				err = txn.Apply(bg, l, g.batch(l, n, 100*i+n))
			}
		}
		if err == nil {
			err = txn.Commit(bg)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	crashed := g.dev.Clone() // closing makes all headers equal
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	g.dev = crashed
	return g
}

// batch is the n-th of a PFS: ten new files, and another content of one.
func (g *grown) batch(label string, n, age int) *chain.Batch {
	now := make(map[string]string)
	if n > 0 {
		now = maps.Clone(g.files[label][n-1])
	}
	b := &chain.Batch{T: ondisk.MakeTid(1, uint32(n+1))}
	entry := func(dir, inum uint64, name string, typ ondisk.ObjType) {
		key := ondisk.NameHash(name) | inum&0xff
		b.Changes = append(b.Changes, chain.Change{Inum: dir, Kind: chain.KindDirent, Key: key,
			Dirent: ondisk.Dirent{Key: key, Inum: inum, Type: typ, Name: name}})
	}
	inode := func(inum, dir uint64, typ ondisk.ObjType, content string) {
		m := ondisk.NewInodeMeta(inum, typ)
		m.Mode, m.Nlinks, m.Iparent, m.Size, m.Ctime = 0o700, 1, dir, uint64(len(content)), uint64(age+1)*1e6
		c := chain.Change{Inum: inum, Kind: chain.KindInode, Inode: &m}
		if typ == ondisk.ObjFile {
			m.OpFlags, c.Inline = ondisk.OpDirectData, []byte(content)
		}
		b.Changes = append(b.Changes, c)
	}
	const dir = ondisk.InumFirst
	if n == 0 {
		inode(dir, ondisk.InumRoot, ondisk.ObjDir, "")
		entry(ondisk.InumRoot, dir, "dir", ondisk.ObjDir)
	}
	for i := range 10 {
		inum, at, path := uint64(dir+1+n*10+i), uint64(ondisk.InumRoot), fmt.Sprintf("f%d-%d", n, i)
		if i >= 5 {
			at = dir
		}
		entry(at, inum, path, ondisk.ObjFile)
		if at == dir {
			path = "dir/" + path
		}
		now[path] = fmt.Sprintf("%s of %s", path, label)
		inode(inum, at, ondisk.ObjFile, now[path])
	}
	if n > 0 {
		now["f0-0"] = fmt.Sprintf("f0-0 of %s, again in %d", label, n)
		inode(dir+1, ondisk.InumRoot, ondisk.ObjFile, now["f0-0"])
	}
	b.Sort()
	g.files[label] = append(g.files[label], now)
	return b
}

// wipe destroys a block.
func (g *grown) wipe(t *testing.T, ref *ondisk.Blockref) {
	t.Helper()
	if ref == nil {
		return
	}
	if _, err := g.dev.WriteAt(make([]byte, ref.Size()), int64(ref.Off())); err != nil {
		t.Fatal(err)
	}
}

// root is the reference to the root of a PFS by a header.
func root(t *testing.T, set *media.Set, h *ondisk.VolumeHeader, label string) *ondisk.Blockref {
	t.Helper()
	list, err := set.PFSs(bg, h)
	for i := range list {
		if list[i].Label() == label {
			return &list[i].Ref
		}
	}
	t.Log("no PFS", label, err) // destroyed already, by another header
	return nil
}

func (g *grown) set(t *testing.T) *media.Set {
	t.Helper()
	set, err := media.Open([]ondisk.Device{g.dev})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// wiped is a block of the header in use that a case destroys.
type wiped func(t *testing.T, g *grown, set *media.Set)

func superRoot(t *testing.T, g *grown, set *media.Set) {
	ref := media.SuperRoot(set.Header())
	g.wipe(t, &ref)
}

func pfsRoot(t *testing.T, g *grown, set *media.Set) {
	g.wipe(t, root(t, set, set.Header(), "HOME"))
}

// everyHeader destroys that of all headers: none leads anywhere.
func everyHeader(what wiped) wiped {
	return func(t *testing.T, g *grown, set *media.Set) {
		slots := slices.Clone(set.Slots)
		if set.Spare != nil {
			slots = append(slots, *set.Spare)
		}
		for i := range slots {
			if slots[i].Header != nil {
				one := *set
				one.Best = &slots[i]
				what(t, g, &one)
			}
		}
	}
}

// everyRoot destroys all roots of the PFS that are on the device.
func everyRoot(t *testing.T, g *grown, set *media.Set) {
	block := ondisk.AlignedBuffer(ondisk.InodeSize)
	for off := uint64(0); off < set.Header().Size(); off += ondisk.InodeSize {
		if err := set.ReadAt(block, off); err != nil {
			t.Fatal(err)
		}
		m, err := ondisk.DecodeInodeMeta(block)
		if err == nil && m.OpFlags&ondisk.OpPFSRoot != 0 && m.Name() == "HOME" {
			ref := inodeRef(off)
			g.wipe(t, &ref)
		}
	}
}

// came are the files in a directory, by path.
func came(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(bytes.TrimRight(b, "\x00"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Of a volume of which the way into a PFS is damaged all files come out: those
// of an older header by Copy, all by Deleted.
func TestRootLost(t *testing.T) {
	const commits = 4
	for _, c := range []struct {
		name    string
		labels  []string
		ask     string
		wipe    wiped
		copied  int // commits that Copy gives; 0 = ErrRoot
		deleted int // those that Deleted gives by path; 0 = by number
	}{
		{"PFS root", []string{"HOME"}, "HOME", pfsRoot, commits - 1, commits - 1},
		{"super-root, not named", []string{"HOME"}, "", superRoot, commits - 1, commits},
		{"PFS root beside another", []string{"HOME", "WORK"}, "HOME", pfsRoot, commits - 1, commits - 1},
		{"PFS roots of headers, not named", []string{"HOME"}, "", everyHeader(pfsRoot), 0, commits - 1},
		{"super-roots of headers", []string{"HOME"}, "HOME", everyHeader(superRoot), 0, commits},
		{"super-roots of headers, not named", []string{"HOME"}, "", everyHeader(superRoot), 0, commits},
		{"super-roots of two", []string{"HOME", "WORK"}, "HOME", everyHeader(superRoot), 0, commits},
		{"super-roots of two, the other", []string{"WORK", "HOME"}, "HOME", everyHeader(superRoot), 0, commits},
		{"all roots", []string{"HOME"}, "HOME", everyRoot, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			size := int64(256 << 20) // has one header
			if c.copied > 0 {
				size += 6 << 30 // and this four
			}
			g := grow(t, size, commits, c.labels...)
			c.wipe(t, g, g.set(t))
			var told []string
			o := Options{Label: c.ask, Slot: -1, Lost: func(path string, err error) { told = append(told, path+": "+err.Error()) }}
			dir := t.TempDir()
			_, err := Copy(bg, []ondisk.Device{g.dev}, dir, o)
			if c.copied == 0 {
				if !errors.Is(err, ErrRoot) || !strings.Contains(err.Error(), "--deleted") {
					t.Errorf("Copy: %v, want ErrRoot", err)
				}
			} else if err != nil || !maps.Equal(came(t, dir), g.files["HOME"][c.copied-1]) || !strings.Contains(strings.Join(told, "\n"), "from header") {
				t.Errorf("Copy: %v, told %q\ngot  %v\nwant %v", err, told, came(t, dir), g.files["HOME"][c.copied-1])
			}
			dir, told = t.TempDir(), nil
			if _, err := Deleted(bg, []ondisk.Device{g.dev}, dir, o, nil); err != nil || len(told) == 0 {
				t.Fatalf("Deleted: %v, told %q", err, told)
			}
			got := came(t, dir)
			want := g.files["HOME"][commits-1]
			for path, content := range want {
				n, i := 0, 0
				_, _ = fmt.Sscanf(filepath.Base(path), "f%d-%d", &n, &i)
				switch {
				case c.deleted == 0 && i >= 5:
					path = strings.Replace(path, "dir/", "lost+found/#1024/", 1)
				case n >= c.deleted && i < 5:
					path = fmt.Sprintf("lost+found/#%d", ondisk.InumFirst+1+n*10+i)
				}
				if got[path] != content {
					t.Errorf("Deleted: %s is %q, want %q", path, got[path], content)
				}
				delete(got, path)
			}
			if len(got) > 0 {
				t.Errorf("Deleted: also %v", got)
			}
		})
	}
}

// Where there are no PFSs at all, that is said.
func TestNoPFS(t *testing.T) {
	if err := noPFS("X", nil); !errors.Is(err, ErrNoPFS) || !strings.HasSuffix(err.Error(), "there are none") {
		t.Error(err)
	}
	if err := noPFS("", []string{"A", "B"}); !errors.Is(err, ErrNoPFS) || !strings.HasSuffix(err.Error(), "there are A, B") {
		t.Error(err)
	}
}
