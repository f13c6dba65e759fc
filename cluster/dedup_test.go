package cluster

import (
	"bytes"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// collect lists all blocks on media, a few at a time.
func collect(t *testing.T, p *Pool, limit int) (all []PlacedBlock) {
	t.Helper()
	for inum, key := uint64(0), uint64(0); ; {
		list, i, k, err := p.MediaBlocks(bg, inum, key, limit)
		if err != nil || len(list) > limit {
			t.Fatal(len(list), err)
		}
		if all = append(all, list...); i == 0 {
			return all
		}
		inum, key = i, k
	}
}

func merge(t *testing.T, p *Pool, src, srcKey, dst, dstKey, size uint64, n int) (m Merged) {
	t.Helper()
	call(t, p, func(tx *Txn) (err error) {
		m, err = tx.MergeData(bg, src, srcKey, dst, dstKey, size, n)
		return err
	})
	return m
}

// Equal blocks of files become one, whatever else is in them, and nothing that
// is not equal or not on media is touched.
func TestMergeData(t *testing.T) {
	const blocks = 4
	const size = blocks*ondisk.LogicalBlock - 1000
	dev := formatted(t, 256<<20)
	p, _ := openFake(t, Options{Commit: time.Hour}, dev)
	defer crash(p)
	content := noise(1, size)
	a, b := makeFile(t, p, 1, "a", ondisk.ObjFile), makeFile(t, p, 1, "b", ondisk.ObjFile)
	write(t, p, a, 0, content)
	other := bytes.Clone(content)
	other[ondisk.LogicalBlock] ^= 1
	write(t, p, b, 0, other)
	if list := collect(t, p, 3); len(list) != 0 {
		t.Errorf("%d blocks on media before the commit", len(list))
	}
	mustSync(t, p)
	list := collect(t, p, 3)
	if len(list) != 2*blocks || list[0].Inum != a || list[0].ID != list[blocks].ID || list[1].ID == list[1+blocks].ID || list[7].FileSize != size {
		t.Fatalf("%+v", list)
	}
	write(t, p, b, 2*ondisk.LogicalBlock, content[:1]) // the same bytes: how it is stored is not known yet
	other[2*ondisk.LogicalBlock] = content[0]
	if m := merge(t, p, a, 0, b, 0, size, blocks); m != (Merged{Blocks: 2, Bytes: 2 << 16}) {
		t.Errorf("first: %+v", m)
	}
	check := func(when string) {
		t.Helper()
		for inum, want := range map[uint64][]byte{a: content, b: other} {
			if err := compareFile(p, inum, want); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	check("before the commit")
	mustSync(t, p)
	check("committed")
	if n := same(addresses(t, p, a), addresses(t, p, b)); n != 2 {
		t.Errorf("%d blocks shared, want 2", n)
	}
	if m := merge(t, p, a, 0, b, 0, size, blocks); m != (Merged{Had: 2, Already: 2 << 16}) {
		t.Errorf("again: %+v", m)
	}
	if m := merge(t, p, a, 0, b, ondisk.LogicalBlock, size, 2); m != (Merged{}) {
		t.Errorf("different blocks: %+v", m)
	}
	// The file grows over what was merged: zeros follow.
	call(t, p, func(tx *Txn) error {
		tx.PutInode(fileMeta(b, size+900))
		return tx.TruncateData(bg, b, size, size+900)
	})
	other = append(other, make([]byte, 900)...)
	check("grown")
	mustSync(t, p)
	check("grown and committed")
}

// Blocks of one check code and different bytes are not merged: codes can be
// made to collide.
func TestMergeComparesBytes(t *testing.T) {
	p, e := openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
	defer crash(p)
	a, b := makeFile(t, p, 1, "a", ondisk.ObjFile), makeFile(t, p, 1, "b", ondisk.ObjFile)
	for inum, text := range map[uint64]string{a: "one", b: "two"} {
		in := fileMeta(inum, ondisk.LogicalBlock)
		in.Meta.CheckAlgo = uint8(ondisk.CheckISCSI32)
		call(t, p, func(tx *Txn) error {
			tx.PutInode(in)
			return tx.WriteData(bg, inum, 0, colliding(text))
		})
	}
	mustSync(t, p)
	list := collect(t, p, 10)
	if len(list) != 2 || list[0].ID != list[1].ID {
		t.Fatalf("the codes do not collide: %+v", list)
	}
	if m := merge(t, p, a, 0, b, 0, ondisk.LogicalBlock, 1); m != (Merged{}) {
		t.Errorf("%+v", m)
	}
	mustSync(t, p)
	if err := compareFile(p, b, colliding("two")); err != nil {
		t.Error(err)
	}
	if len(e.reports) > 0 {
		t.Error(e.reports)
	}
}

// colliding is a block that begins with text and has the CRC-32C zero: such a
// code is forged by four bytes.
func colliding(text string) []byte {
	p := noise(uint64(len(text)), ondisk.LogicalBlock)
	copy(p, text)
	clear(p[len(p)-4:])
	// The code is linear over GF(2): find which of the last 32 bits, turned
	// over, make it zero.
	base := ondisk.CRC32C(p)
	var rows [32]struct{ effect, bits uint32 }
	for i := range rows {
		p[len(p)-4+i/8] ^= 1 << (i % 8)
		rows[i].effect, rows[i].bits = ondisk.CRC32C(p)^base, 1<<i
		p[len(p)-4+i/8] ^= 1 << (i % 8)
	}
	want := base
	var bits uint32
	for bit := uint32(1); bit != 0; bit <<= 1 {
		for i := range rows {
			if rows[i].effect&bit == 0 {
				continue
			}
			pivot := rows[i]
			if want&bit != 0 {
				want ^= pivot.effect
				bits ^= pivot.bits
			}
			for k := range rows {
				if rows[k].effect&bit != 0 {
					rows[k].effect ^= pivot.effect
					rows[k].bits ^= pivot.bits
				}
			}
			break
		}
	}
	for i := range 4 {
		p[len(p)-4+i] = byte(bits >> (8 * i))
	}
	return p
}

// With Options.Dedup equal blocks are written once: in one group, in groups one
// after the other, and over themselves; and only equal ones.
func TestRecentBlocksAreShared(t *testing.T) {
	const size = 3 * ondisk.LogicalBlock
	p, e := openFake(t, Options{Commit: time.Hour, Dedup: true}, formatted(t, 256<<20))
	defer crash(p)
	content := noise(1, size)
	want := make(map[uint64][]byte)
	file := func(name string, content []byte) uint64 {
		inum := makeFile(t, p, 1, name, ondisk.ObjFile)
		write(t, p, inum, 0, content)
		want[inum] = content
		return inum
	}
	check := func() {
		t.Helper()
		for inum, content := range want {
			if err := compareFile(p, inum, content); err != nil {
				t.Error(err)
			}
		}
	}
	a, b := file("a", content), file("b", content)
	mustSync(t, p)
	c := file("c", content)
	write(t, p, a, 0, content[:ondisk.LogicalBlock]) // the same again
	changed := bytes.Clone(content)
	changed[5] ^= 1
	d := file("d", changed)
	mustSync(t, p)
	// The source goes in the very group that could share it.
	g := file("g", content[:ondisk.LogicalBlock])
	call(t, p, func(tx *Txn) error { tx.DeleteInode(a); return tx.RemoveDirent(1, "a") })
	delete(want, a)
	mustSync(t, p)
	check()
	first := addresses(t, p, b)
	for inum, n := range map[uint64]int{c: 3, d: 2, g: 1} {
		if got := same(first, addresses(t, p, inum)); got != n {
			t.Errorf("inode %d shares %d blocks, want %d", inum, got, n)
		}
	}
	// A code that was written before, with other bytes.
	put := func(name string, content []byte) uint64 {
		inum := makeFile(t, p, 1, name, ondisk.ObjFile)
		in := fileMeta(inum, ondisk.LogicalBlock)
		in.Meta.CheckAlgo = uint8(ondisk.CheckISCSI32)
		call(t, p, func(tx *Txn) error { tx.PutInode(in); return tx.WriteData(bg, inum, 0, content) })
		want[inum] = content
		return inum
	}
	x, y := put("x", colliding("one")), put("y", colliding("two"))
	mustSync(t, p)
	z := put("z", colliding("six"))
	mustSync(t, p)
	check()
	at := addresses(t, p, x)
	if same(at, addresses(t, p, y))+same(at, addresses(t, p, z)) != 0 {
		t.Error("blocks of one code and different bytes are shared")
	}
	if len(e.reports) > 0 {
		t.Error(e.reports)
	}
}

// The index is bounded.
func TestRecentForgets(t *testing.T) {
	r := newRecent(1)
	for i := range 5000 {
		r.note(BlockID{code: [24]byte{byte(i), byte(i >> 8)}}, placeOf{inum: uint64(i)})
		r.note(BlockID{code: [24]byte{1}}, placeOf{inum: 7})
	}
	if len(r.places) > len(r.order) || len(r.order) != 1024 {
		t.Errorf("%d places, room for %d", len(r.places), len(r.order))
	}
	if _, ok := r.places[BlockID{code: [24]byte{4999 & 255, 4999 >> 8}}]; !ok {
		t.Error("the last one is forgotten")
	}
}
