package main

import (
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/sync/ledger"
)

// TestErrorList: what an operator needs of each bad place, within 80 columns.
func TestErrorList(t *testing.T) {
	at := func(minutes int) time.Time { return time.Date(2026, 11, 29, 22, minutes, 7, 0, time.Local) }
	damage := func(node string, kind ondisk.BlockType, key uint64) cluster.Damage {
		return cluster.Damage{Node: node, Label: "HOME", Leaf: cluster.Leaf{Inum: 1029, Kind: kind, Key: key}}
	}
	const reason = "not repaired: no other copy is in sync"
	differs := damage("/dev/sdc", ondisk.TypeData, 5<<40)
	differs.Differs = true
	list := []ledger.Entry{
		{Damage: damage("/dev/sdb", ondisk.TypeData, 131072), Path: "/data", What: reason, Count: 3, Last: at(1), Next: at(5)},
		{Damage: damage("/dev/sdb", ondisk.TypeDirent, 1<<63), Path: "/a\nb\xff", What: reason, Count: 12345, Last: at(2), Next: at(9)},
		{Damage: damage("/dev/sdb", ondisk.TypeIndirect, 0), Path: "inode 1030", Count: 1, Last: at(3), Repaired: at(4)},
		{Damage: differs, Path: "/data", What: "no majority of the masters has the same, so that which one is right has to be said", Count: 1, Last: at(1), Next: at(2)},
		{Damage: damage("/dev/sdc", ondisk.TypeInode, 1029), Path: "/" + strings.Repeat("é", 90), What: reason, Count: 1, Last: at(1), Next: at(2)},
		{Damage: damage("/dev/sdc", 0, 0), Path: "the super-root", What: reason, Count: 1, Last: at(1), Next: at(2)},
		{Damage: cluster.Damage{Node: "/dev/sdc", Leaf: cluster.HeaderLeaf(0)}, Path: "copy of the volume header at 0x0", Count: 1, Last: at(1), Repaired: at(4)},
	}
	const want = `  NODE      OFFSET         SEEN   LAST         NEXT TRY     STATE
/data
  /dev/sdb  131072         3      11-29 22:01  11-29 22:05  unreadable
  /dev/sdc  5497558138880  1      11-29 22:01  11-29 22:02  differs
/a\nb\xff
  /dev/sdb  name           12345  11-29 22:02  11-29 22:09  unreadable
inode 1030 of HOME
  /dev/sdb  table          1      11-29 22:03  -            repaired
/LONG
  /dev/sdc  inode          1      11-29 22:01  11-29 22:02  unreadable
the super-root
  /dev/sdc  root           1      11-29 22:01  11-29 22:02  unreadable
copy of the volume header at 0x0
  /dev/sdc  header         1      11-29 22:01  -            repaired
why
  not repaired: no other copy is in sync
  no majority of the masters has the same, so that which one is right has to be
    said
`
	var b strings.Builder
	if err := printErrors(&b, list, "/mnt"); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(b.String(), strings.Repeat("é", 90), "LONG")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for line := range strings.Lines(got) {
		if len(line) > 80 {
			t.Errorf("wider than a terminal: %q", line)
		}
	}
}
