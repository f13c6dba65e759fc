package ondisk_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/golden"
)

// sum is the SHA-256 of a file's content.
func (p *pfs) sum(ino *ondisk.Inode) string {
	h := sha256.New()
	zero := make([]byte, ondisk.LogicalBlock)
	if ino.Meta.DirectData() {
		h.Write(ino.Inline[:ino.Meta.Size])
		return hex.EncodeToString(h.Sum(nil))
	}
	for off := uint64(0); off < ino.Meta.Size; off += ondisk.LogicalBlock {
		n := min(ino.Meta.Size-off, ondisk.LogicalBlock)
		b := p.data[ino.Meta.Inum][off]
		b = b[:min(uint64(len(b)), n)]
		h.Write(b)
		h.Write(zero[:n-uint64(len(b))])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// list makes a manifest of the PFS.
func (p *pfs) list(dir uint64, prefix string, out []golden.Entry) []golden.Entry {
	for _, d := range p.entries[dir] {
		ino := p.inodes[d.Inum]
		if ino == nil {
			out = append(out, golden.Entry{Path: prefix + d.Name, Type: "no inode"})
			continue
		}
		m := &ino.Meta
		e := golden.Entry{
			Path: prefix + d.Name, Type: m.Type.String(), Mode: fmt.Sprintf("%04o", m.Mode),
			UID: m.UID, GID: m.GID, Nlink: m.Nlinks, Inum: m.Inum, MtimeUS: m.Mtime,
		}
		switch m.Type {
		case ondisk.ObjFile:
			e.Size, e.SHA256 = m.Size, p.sum(ino)
			if p.broken[m.Inum] {
				e.SHA256 = "damaged"
			}
		case ondisk.ObjSymlink:
			e.Target = string(ino.Inline[:min(m.Size, ondisk.InlineMax)])
			if !m.DirectData() {
				e.Target = string(p.data[m.Inum][0][:m.Size])
			}
		case ondisk.ObjChar, ondisk.ObjBlock:
			e.Rdev = [2]uint32{m.RMajor, m.RMinor}
		}
		out = append(out, e)
		if m.Type == ondisk.ObjDir {
			out = p.list(m.Inum, e.Path+"/", out)
		}
	}
	return out
}

func manifest(t *testing.T, name, label string) []golden.Entry {
	entries := golden.Manifest(t, name, label)
	for i, e := range entries {
		if raw, err := hex.DecodeString(e.PathHex); err == nil && len(raw) > 0 {
			entries[i].Path = string(raw)
		}
		entries[i].PathHex = ""
		if mode, err := strconv.ParseUint(e.Mode, 8, 32); err == nil {
			entries[i].Mode = fmt.Sprintf("%04o", mode)
		}
		if e.Type != "file" {
			entries[i].Size = 0
		}
	}
	return entries
}

func compare(t *testing.T, label string, got, want []golden.Entry, damaged bool) {
	t.Helper()
	byPath := func(a, b golden.Entry) int { return cmp.Compare(a.Path, b.Path) }
	slices.SortFunc(got, byPath)
	slices.SortFunc(want, byPath)
	if len(got) != len(want) {
		t.Errorf("%s: %d entries, want %d", label, len(got), len(want))
		return
	}
	for i := range got {
		if damaged && want[i].Path == "k40" {
			want[i].SHA256 = "damaged"
		}
		if got[i] != want[i] {
			t.Errorf("%s:\n got %+v\nwant %+v", label, got[i], want[i])
		}
	}
}
