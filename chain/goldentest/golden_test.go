package goldentest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/golden"
)

func open(t *testing.T, image string, o chain.Options) *chain.Volume {
	t.Helper()
	devs := []ondisk.Device{golden.Device(t, image)}
	if image == "multivol-0" {
		devs = append(devs, golden.Device(t, "multivol-1"))
	}
	v, err := chain.Open(context.Background(), devs, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestManifests(t *testing.T) {
	for _, image := range golden.Images(t) {
		if image == "multivol-1" {
			continue
		}
		for _, ro := range []bool{true, false} {
			if image == "sparse" && !ro {
				continue // 5 GiB of holes need hashing once only
			}
			t.Run(fmt.Sprintf("%s/readonly=%v", image, ro), func(t *testing.T) {
				v := open(t, image, chain.Options{ReadOnly: ro})
				pfss, err := v.PFSs(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range pfss {
					compare(t, v, image, p.Label)
				}
				if err := v.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// compare compares a PFS with its manifest; those without one are empty.
func compare(t *testing.T, v *chain.Volume, image, label string) {
	t.Helper()
	view, err := v.View(context.Background(), label)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Release()
	w := walker{t: t, view: view, image: image}
	w.dir(ondisk.InumRoot, "")
	want := golden.Manifest(t, image, label)
	slices.SortFunc(w.got, func(a, b golden.Entry) int { return strings.Compare(raw(a), raw(b)) })
	slices.SortFunc(want, func(a, b golden.Entry) int { return strings.Compare(raw(a), raw(b)) })
	if len(w.got) != len(want) {
		t.Errorf("%s: %d entries, want %d", label, len(w.got), len(want))
		return
	}
	for i := range want {
		w.got[i].Path = want[i].Path // not comparable where it is not UTF-8
		if w.got[i] != want[i] {
			t.Errorf("%s: got  %+v\nwant %+v", label, w.got[i], want[i])
		}
	}
}

// raw is the path of an entry as bytes.
func raw(e golden.Entry) string {
	if e.PathHex == "" {
		return e.Path
	}
	b, err := hex.DecodeString(e.PathHex)
	if err != nil {
		panic(err)
	}
	return string(b)
}

type walker struct {
	t     *testing.T
	view  *chain.View
	image string
	got   []golden.Entry
}

func (w *walker) dir(inum uint64, path string) {
	var names []ondisk.Dirent
	err := w.view.Dirents(context.Background(), inum, 0, ^uint64(0), func(d ondisk.Dirent, _ *ondisk.Blockref) bool {
		names = append(names, d)
		return true
	})
	if err != nil {
		w.t.Fatalf("%q: %v", path, err)
	}
	for _, d := range names {
		found, ok, err := w.view.Lookup(context.Background(), inum, d.Name)
		if err != nil || !ok || found != d {
			w.t.Errorf("%q: lookup of %q gives %+v %v %v", path, d.Name, found, ok, err)
		}
		full := d.Name
		if path != "" {
			full = path + "/" + d.Name
		}
		w.entry(d, full)
		if d.Type == ondisk.ObjDir {
			w.dir(d.Inum, full)
		}
	}
}

func (w *walker) entry(d ondisk.Dirent, path string) {
	rec, ok, err := w.view.Inode(context.Background(), d.Inum)
	if err != nil || !ok {
		w.t.Fatalf("%q: inode %d: %v %v", path, d.Inum, ok, err)
	}
	m := &rec.Meta
	e := golden.Entry{
		Path: path, Type: m.Type.String(), Mode: fmt.Sprintf("%04o", m.Mode), UID: m.UID, GID: m.GID,
		Nlink: m.Nlinks, Inum: m.Inum, MtimeUS: m.Mtime,
	}
	if !utf8.ValidString(path) {
		e.PathHex = hex.EncodeToString([]byte(path))
	}
	switch m.Type {
	case ondisk.ObjFile:
		e.Size = m.Size
		e.SHA256 = w.sum(path, m)
	case ondisk.ObjSymlink:
		target := make([]byte, m.Size)
		if err := w.view.ReadData(context.Background(), m.Inum, 0, target); err != nil {
			w.t.Errorf("%q: %v", path, err)
		}
		e.Target = string(target)
	case ondisk.ObjChar, ondisk.ObjBlock:
		e.Rdev = [2]uint32{m.RMajor, m.RMinor}
	}
	w.got = append(w.got, e)
}

// sum reads a file in large pieces at odd places. Holes are hashed too, so
// that a file of many GiB costs what it is long.
func (w *walker) sum(path string, m *ondisk.InodeMeta) string {
	h := sha256.New()
	buf := make([]byte, 1<<20+12345)
	for off := uint64(0); off < m.Size; {
		n := min(uint64(len(buf)), m.Size-off)
		err := w.view.ReadData(context.Background(), m.Inum, off, buf[:n])
		if w.image == "damaged-data" && path == "k40" {
			var node *chain.NodeError
			if !errors.Is(err, ondisk.ErrCorrupt) || !errors.As(err, &node) || node.Inum != m.Inum || node.Ref.Off() != 0x8c10000 {
				w.t.Errorf("the damage of k40 is not found: %v", err)
			}
			for _, want := range golden.Manifest(w.t, w.image, "DATA") {
				if want.Path == path {
					return want.SHA256
				}
			}
		}
		if err != nil {
			w.t.Fatalf("%q at %d: %v", path, off, err)
		}
		h.Write(buf[:n])
		off += n
	}
	return hex.EncodeToString(h.Sum(nil))
}
