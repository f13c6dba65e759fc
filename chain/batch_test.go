package chain

import (
	"errors"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

func TestBatchValidate(t *testing.T) {
	m := newMaker(t, 1)
	file, named := fileMeta(1024), direntChange(1, 1024, "a")
	wrongKey := named
	wrongKey.Key++
	data := Change{Inum: 1024, Kind: KindData, Key: 65536, Block: m.blocks[0]}
	tests := []struct {
		name    string
		changes []Change
		want    string // "" = valid
	}{
		{"empty", nil, ""},
		{"usual", []Change{named, {Inum: 1024, Kind: KindInode, Inode: file}, data}, ""},
		{"range and set at one key", []Change{{Inum: 1024, Kind: KindData, Key: 65536, Delete: true, To: 1 << 40}, data}, ""},
		{"order of inodes", []Change{data, named}, "not sorted"},
		{"order of kinds", []Change{data, {Inum: 1024, Kind: KindInode, Inode: file}}, "not sorted"},
		{"twice", []Change{data, data}, "twice"},
		{"entry deleted and set", []Change{{Inum: 1, Kind: KindDirent, Key: named.Key, Delete: true}, named}, "twice"},
		{"no inode", []Change{{Inum: 1024, Kind: KindInode}}, "no inode given"},
		{"other inode", []Change{{Inum: 1025, Kind: KindInode, Inode: file}}, "its number is 1024"},
		{"root deleted", []Change{{Inum: 1, Kind: KindInode, Delete: true}}, "cannot be deleted"},
		{"inline without flag", []Change{{Inum: 1024, Kind: KindInode, Inode: file, Inline: []byte("x")}}, "inline"},
		{"key of an entry", []Change{wrongKey}, "says its key"},
		{"entry below bit 63", []Change{{Inum: 1, Kind: KindDirent, Key: 5, Delete: true}}, "bit 63"},
		{"odd offset", []Change{{Inum: 1024, Kind: KindData, Key: 4096, Block: m.blocks[0]}}, "impossible offset"},
		{"no block", []Change{{Inum: 1024, Kind: KindData}}, "no block given"},
		{"number 0", []Change{{Kind: KindInode, Inode: file}}, "impossible inode number"},
		{"range of a set", []Change{{Inum: 1024, Kind: KindData, Block: m.blocks[0], To: 65536}}, "range"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := (&Batch{T: 1, Changes: test.changes}).Validate()
			switch {
			case test.want == "" && err == nil:
			case test.want == "" || err == nil:
				t.Fatalf("got %v, want %q", err, test.want)
			case !errors.Is(err, ErrBadBatch) || !strings.Contains(err.Error(), test.want):
				t.Fatalf("got %v, want %q", err, test.want)
			}
		})
	}
}

// Changes that do not fit the tree are refused by name.
func TestApplyRefuses(t *testing.T) {
	p, m := newMemPFS(t, newMemBlocks(), "P"), newMaker(t, 1)
	inline := fileMeta(1026)
	inline.OpFlags = ondisk.OpDirectData
	p.mustApply(t, &Batch{T: 100, Changes: []Change{
		{Inum: 1024, Kind: KindInode, Inode: fileMeta(1024)},
		{Inum: 1025, Kind: KindInode, Inode: dirMeta(1025)},
		{Inum: 1026, Kind: KindInode, Inode: inline},
	}})
	data := func(inum uint64) Change { return Change{Inum: inum, Kind: KindData, Block: m.blocks[0]} }
	tests := []struct {
		tid     ondisk.Tid
		changes []Change
		want    string
	}{
		{101, []Change{data(2000)}, "inode 2000, data 0x0: no such inode"},
		{101, []Change{direntChange(2000, 5, "a")}, "inode 2000, dirent"},
		{101, []Change{{Inum: 2000, Kind: KindData, Delete: true}}, "no such inode"},
		{101, []Change{{Inum: 1024, Kind: KindInode, Delete: true}, data(1024)}, "no such inode"},
		{101, []Change{data(1025)}, "a directory has no data"},
		{101, []Change{data(1)}, "a directory has no data"},
		{101, []Change{data(1026)}, "inline"},
		{101, []Change{direntChange(1024, 5, "a")}, "a file has no entries"},
		{99, nil, "older than the PFS"},
	}
	for _, test := range tests {
		before := p.ref
		err := p.apply(&Batch{T: test.tid, Changes: test.changes})
		if !errors.Is(err, ErrBadBatch) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
		if p.ref != before {
			t.Error("root changed")
		}
	}
}

// Role, identity and label are each node's own; the rest of the root is shared.
func TestApplyKeepsRootIdentity(t *testing.T) {
	p := newMemPFS(t, newMemBlocks(), "MINE")
	before := p.view(t).root.Meta
	other := ondisk.NewInodeMeta(1, ondisk.ObjDir)
	other.Mode, other.UID, other.PFSType, other.PFSFsid = 0o700, 7, ondisk.PFSSlave, ondisk.NewUUID()
	p.mustApply(t, &Batch{T: 100, Changes: []Change{
		{Inum: 1, Kind: KindInode, Inode: &other},
		{Inum: 5000, Kind: KindInode, Inode: fileMeta(5000)},
		{Inum: ondisk.AttrBit | 5000, Kind: KindInode, Inode: fileMeta(ondisk.AttrBit | 5000)},
	}})
	got := p.view(t).root.Meta
	if got.Name() != "MINE" || got.PFSFsid != before.PFSFsid || got.PFSType != ondisk.PFSMaster || got.NameKey != before.NameKey {
		t.Errorf("identity lost: %+v", got)
	}
	if got.Mode != 0o700 || got.UID != 7 {
		t.Errorf("change lost: %+v", got)
	}
	if got.PFSInum != 5000 {
		t.Errorf("highest number %d, want 5000", got.PFSInum)
	}
}
