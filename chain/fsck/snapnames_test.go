package fsck

import (
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// What is wrong in a snapshot is in what was, which no repair, mount or count
// changes: nobody is sent to one, and it does not ask for fixes.
func TestWrongNamesOfASnapshot(t *testing.T) {
	m := newMaker(t, 64<<20)
	m.tree()
	m.entry(ondisk.InumRoot, "nothing", 1<<40, ondisk.ObjFile)
	m.inode(3000, ondisk.ObjFile, func(i *ondisk.InodeMeta) { i.Nlinks = 0 })
	m.inode(3001, ondisk.ObjDir, func(i *ondisk.InodeMeta) { i.AccountFlags, i.Charge, i.ChargeInodes = ondisk.AccountRoot, 5, 7 })
	m.entry(ondisk.InumRoot, "account", 3001, ondisk.ObjDir)
	m.commit(ondisk.MakeTid(1, 1), func(txn *chain.Txn) error { return txn.Snapshot(bg, "DATA", "SNAP", chain.SnapSpec{}) })
	rep := check(t, Options{}, m.dev)
	remedies := make(map[string]map[string]bool)
	for _, f := range rep.Findings {
		if remedies[f.PFS] == nil {
			remedies[f.PFS] = make(map[string]bool)
		}
		remedies[f.PFS][f.Remedy] = true
	}
	if d := remedies["DATA"]; len(d) != 3 || !d[remedyNames] || !d[remedyCount] {
		t.Errorf("of the PFS: %v", rep.Findings)
	}
	if s := remedies["SNAP"]; len(s) != 1 || !s[remedySnapshot] || len(rep.Findings) != 6 {
		t.Errorf("of the snapshot: %v", rep.Findings)
	}
	for _, f := range rep.Fixes {
		if f.PFS != "DATA" {
			t.Errorf("a fix of %s: %v", f.PFS, f)
		}
	}
}

// Symptom: of each file that a program had open without a name when a snapshot was
// made, fsck said on a line of its own that the system had stopped.
func TestUnnamedFilesOfASnapshot(t *testing.T) {
	m := newMaker(t, 64<<20)
	m.tree()
	for i := range uint64(3) {
		m.inode(3000+i, ondisk.ObjFile, func(i *ondisk.InodeMeta) { i.Nlinks = 0 })
	}
	m.commit(ondisk.MakeTid(1, 1), func(txn *chain.Txn) error { return txn.Snapshot(bg, "DATA", "SNAP", chain.SnapSpec{}) })
	rep := check(t, Options{}, m.dev)
	var of []Finding
	for _, f := range rep.Findings {
		if f.PFS == "SNAP" {
			of = append(of, f)
		}
	}
	if len(of) != 1 || of[0].Severity != Info || of[0].What != "3 files had been deleted and were open still when it was made" {
		t.Errorf("%v", of)
	}
	if len(rep.Findings) != 4 || !rep.Clean() {
		t.Errorf("%v", rep.Findings)
	}
}
