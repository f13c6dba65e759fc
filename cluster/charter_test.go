package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

func sampleCharter() *Charter {
	c := &Charter{Config: Config{Version: 7, Members: []Member{
		{Fsid: ondisk.UUID{1}, Role: ondisk.PFSMaster, Incarnation: ondisk.UUID{9}, Acked: ondisk.MakeTid(3, 4)},
		{Fsid: ondisk.UUID{2}, Role: ondisk.PFSSlave, Replaces: ondisk.UUID{3}},
	}, Joint: []Member{{Fsid: ondisk.UUID{3}, Role: ondisk.PFSMaster}}}}
	c.Lineage = *c.Lineage.WithEpoch(1, Position{})
	c.Lineage = *c.Lineage.WithEpoch(4, Position{T: ondisk.MakeTid(1, 20), H: History{5}})
	c.Lineage = *c.Lineage.WithRollback(ondisk.MakeTid(1, 9), ondisk.MakeTid(1, 2))
	c.Ops = []Op{{Mount: ondisk.UUID{8}, Sequence: 77}}
	return c
}

func TestCharterGolden(t *testing.T) {
	const path = "testdata/charter.hex"
	got := EncodeCharter(sampleCharter())
	if *rewrite {
		check(t, os.WriteFile(path, []byte(hex.Dump(got)), 0o644))
	}
	want, err := os.ReadFile(path)
	check(t, err)
	if hex.Dump(got) != string(want) {
		t.Errorf("encoding changed:\n%s", hex.Dump(got))
	}
	back, err := DecodeCharter(got)
	check(t, err)
	if !reflect.DeepEqual(back, sampleCharter()) {
		t.Errorf("decoded: %+v", back)
	}
}

func TestCharterAtItsLongest(t *testing.T) {
	c := &Charter{}
	for i := range maxMembers {
		m := Member{Fsid: ondisk.UUID{1, byte(i)}, Role: ondisk.PFSMaster}
		c.Config.Members = append(c.Config.Members, m)
		c.Config.Joint = append(c.Config.Joint, m)
	}
	for i := range core.MaxMarks + 10 {
		c.Lineage = *c.Lineage.WithEpoch(uint32(i+1), Position{T: ondisk.MakeTid(uint32(i), 0)})
		c.Lineage = *c.Lineage.WithRollback(ondisk.Tid(i+2), ondisk.Tid(i+1))
	}
	c.Ops = make([]Op, core.MaxOps)
	b := EncodeCharter(c)
	if len(b) > ondisk.LogicalBlock {
		t.Fatalf("%d bytes do not fit a block", len(b))
	}
	if _, err := DecodeCharter(b); err != nil {
		t.Fatal(err)
	}
}

func TestCharterRefuses(t *testing.T) {
	for name, change := range map[string]func(*Charter){
		"no master":          func(c *Charter) { c.Config.Members[0].Role = ondisk.PFSSlave },
		"twice":              func(c *Charter) { c.Config.Members[1].Fsid = ondisk.UUID{1} },
		"role":               func(c *Charter) { c.Config.Members[0].Role = ondisk.PFSSuperRoot },
		"epoch 4":            func(c *Charter) { c.Lineage.Epochs[1].On.T = ondisk.MakeTid(4, 0) },
		"rollback at":        func(c *Charter) { c.Lineage.Rollbacks[0].To = ondisk.MakeTid(9, 9) },
		"no master before":   func(c *Charter) { c.Config.Joint[0].Role = ondisk.PFSSlave },
		"too long":           func(c *Charter) { c.Ops = make([]Op, core.MaxOps+1) },
		"member 00000000-00": func(c *Charter) { c.Config.Members[0].Fsid = ondisk.UUID{} },
	} {
		c := sampleCharter()
		change(c)
		if err := validateCharter(c); !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := EncodeCharter(sampleCharter())
	for i := range good {
		if _, err := DecodeCharter(good[:i]); err == nil {
			t.Errorf("cut at %d: decoded", i)
		}
	}
}

func FuzzDecodeCharter(f *testing.F) {
	f.Add(EncodeCharter(sampleCharter()))
	f.Add([]byte(charterMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCharter(b)
		if err != nil {
			if !errors.Is(err, ondisk.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(EncodeCharter(c), b) {
			t.Fatal("encodes to something else")
		}
	})
}

func TestLineage(t *testing.T) {
	at := func(e, s uint32) Position { return Position{T: ondisk.MakeTid(e, s), H: History{byte(e), byte(s)}} }
	var l *Lineage
	l = l.WithEpoch(1, Position{}).WithEpoch(3, at(1, 50)).WithEpoch(4, at(3, 7))
	pos := at(4, 2)
	for _, x := range []struct {
		T    ondisk.Tid
		want bool
	}{
		{ondisk.MakeTid(4, 2), true}, {ondisk.MakeTid(4, 3), false}, {ondisk.MakeTid(3, 7), true}, {ondisk.MakeTid(3, 8), false},
		{ondisk.MakeTid(1, 50), true}, {ondisk.MakeTid(1, 51), false}, {ondisk.MakeTid(2, 1), false}, {ondisk.MakeTid(5, 0), false},
	} {
		if got := l.Contains(pos, x.T); got != x.want {
			t.Errorf("contains %v: %v", x.T, got)
		}
	}
	if other := at(3, 7); !l.ContainsPos(pos, other) || l.ContainsPos(pos, Position{T: other.T, H: History{0xee}}) {
		t.Error("the hash of a state that an epoch was built on is not compared")
	}
	old := (*Lineage)(nil).WithEpoch(1, Position{}).WithEpoch(3, at(1, 50))
	for _, x := range []struct {
		pos  Position
		l    *Lineage
		want ondisk.Tid
	}{
		{at(3, 5), old, ondisk.MakeTid(3, 5)}, {at(3, 9), old, ondisk.MakeTid(3, 7)}, {at(1, 60), old, ondisk.MakeTid(1, 50)},
		{Position{}, nil, 0}, {pos, l, pos.T},
	} {
		if got := CommonTid(l, pos, x.l, x.pos); got != x.want {
			t.Errorf("common with %v: %v, want %v", x.pos, got, x.want)
		}
	}
	rolled := l.WithRollback(ondisk.MakeTid(4, 1), ondisk.MakeTid(1, 20))
	if got := CommonTid(rolled, pos, old, at(3, 5)); got != ondisk.MakeTid(1, 20) {
		t.Errorf("across a rollback: %v", got)
	}
}

// Whoever has the content of between is told by the charter that comes with a
// rollback what it still has in common.
func TestMarkRollback(t *testing.T) {
	law := sampleCharter()
	law.Lineage = *(*Lineage)(nil).WithEpoch(1, Position{})
	to, between, at := ondisk.MakeTid(1, 20), ondisk.MakeTid(1, 39), ondisk.MakeTid(1, 40)
	b := &chain.Batch{T: at, Ops: []chain.PFSOp{{Kind: chain.OpRollback, To: to}}}
	_, c, ok := MarkRollback(b, law)
	if !ok {
		t.Fatal("no mark")
	}
	if got := CommonTid(&c.Lineage, Position{T: at}, &law.Lineage, Position{T: between}); got != to {
		t.Errorf("common with who has %v: %v, want %v", between, got, to)
	}
	if _, _, ok := MarkRollback(&chain.Batch{T: at}, law); ok {
		t.Error("a batch that rolls nothing back is marked")
	}
}

func TestManifestSeesEverything(t *testing.T) {
	block, _, err := ondisk.EncodeData([]byte("some data"), uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64))
	check(t, err)
	other, _, err := ondisk.EncodeData([]byte("some DATA"), uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64))
	check(t, err)
	base := func() *chain.Batch {
		b := file(ondisk.MakeTid(2, 1), 2000, "content")
		b.Changes = append(b.Changes,
			chain.Change{Inum: 2001, Kind: chain.KindDirent, Key: ondisk.DirBit, Dirent: ondisk.Dirent{Key: ondisk.DirBit, Inum: 5, Name: "name"}},
			chain.Change{Inum: 2002, Kind: chain.KindData, Block: block})
		return b
	}
	seen := map[[32]byte]string{Manifest(base()): "base"}
	for name, change := range map[string]func(*chain.Batch){
		"inline":  func(b *chain.Batch) { b.Changes[0].Inline = []byte("Content") },
		"mode":    func(b *chain.Batch) { b.Changes[0].Inode.Mode = 0o777 },
		"name":    func(b *chain.Batch) { b.Changes[1].Dirent.Name = "Name" },
		"inum":    func(b *chain.Batch) { b.Changes[1].Dirent.Inum = 6 },
		"data":    func(b *chain.Batch) { b.Changes[2].Block = other },
		"tid":     func(b *chain.Batch) { b.Changes[2].ModifyTid = 3 },
		"key":     func(b *chain.Batch) { b.Changes[2].Key = ondisk.LogicalBlock },
		"delete":  func(b *chain.Batch) { b.Changes[2].Delete, b.Changes[2].Block = true, nil },
		"touch":   func(b *chain.Batch) { b.Touch = []chain.Touch{{Inum: 1, Lo: 0, Hi: 9}} },
		"missing": func(b *chain.Batch) { b.Changes = b.Changes[:2] },
	} {
		b := base()
		change(b)
		m := Manifest(b)
		if have, ok := seen[m]; ok {
			t.Errorf("%s has the manifest of %s", name, have)
		}
		seen[m] = name
	}
	if !strings.HasPrefix(Position{T: ondisk.MakeTid(2, 1)}.String(), "2:1/") {
		t.Error("position text")
	}
}
