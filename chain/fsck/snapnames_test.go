package fsck

import (
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// What is wrong in a snapshot is in what was, which no repair changes: nobody is
// sent to one, and it does not ask for fixes.
func TestWrongNamesOfASnapshot(t *testing.T) {
	m := newMaker(t, 64<<20)
	m.tree()
	m.entry(ondisk.InumRoot, "nothing", 1<<40, ondisk.ObjFile)
	m.commit(ondisk.MakeTid(1, 1), func(txn *chain.Txn) error { return txn.Snapshot(bg, "DATA", "SNAP", chain.SnapSpec{}) })
	rep := check(t, Options{}, m.dev)
	said := make(map[string]string)
	for _, f := range rep.Findings {
		said[f.PFS] = f.Remedy
	}
	if len(rep.Findings) != 2 || said["DATA"] != remedyNames || said["SNAP"] != remedySnapshot {
		t.Errorf("%v", rep.Findings)
	}
	for _, f := range rep.Fixes {
		if f.PFS != "DATA" {
			t.Errorf("a fix of %s: %v", f.PFS, f)
		}
	}
}
