package cluster

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// noise is n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 7))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// shareAll gives dst the content of src, n bytes of it.
func shareAll(t *testing.T, p *Pool, src, dst uint64, n int) {
	t.Helper()
	call(t, p, func(tx *Txn) error {
		tx.PutInode(fileMeta(dst, uint64(n)))
		done, err := tx.ShareData(bg, src, 0, dst, 0, uint64(n))
		if err == nil && done != uint64(n) {
			t.Errorf("%d of %d bytes shared", done, n)
		}
		return err
	})
}

// addresses lists where the blocks of an inode are, on the first volume.
func addresses(t *testing.T, p *Pool, inum uint64) (out []uint64) {
	t.Helper()
	s := p.acquire()
	defer s.release()
	err := s.views[0].View.DataRefs(bg, inum, 0, maxData, func(r *ondisk.Blockref) bool {
		out = append(out, r.Off())
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func same(a, b []uint64) (n int) {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			n++
		}
	}
	return n
}

// Content is right and shared wherever the source is at the moment: on media,
// in a group that is being committed and cannot, in the group of the call, and
// where the source is a shared copy itself.
func TestShareFromEveryLayer(t *testing.T) {
	const size = 3*ondisk.LogicalBlock + 5000
	dev := formatted(t, 256<<20)
	p, e := openFake(t, Options{Commit: time.Hour}, dev)
	tree, syncing, open := makeFile(t, p, 1, "tree", ondisk.ObjFile), makeFile(t, p, 1, "syncing", ondisk.ObjFile), makeFile(t, p, 1, "open", ondisk.ObjFile)
	want := map[uint64][]byte{tree: noise(1, size), syncing: noise(2, size), open: noise(3, size)}
	copies := map[uint64]uint64{} // copy: original
	share := func(src uint64, name string) (dst uint64) {
		dst = makeFile(t, p, 1, name, ondisk.ObjFile)
		shareAll(t, p, src, dst, size)
		want[dst], copies[dst] = want[src], src
		return dst
	}
	check := func(when string) {
		t.Helper()
		for inum, content := range want {
			if in, _, _ := p.Inode(bg, inum); in.Meta.Size == 0 {
				continue
			}
			if err := compareFile(p, inum, content); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	write(t, p, tree, 0, want[tree])
	mustSync(t, p)
	write(t, p, syncing, 0, want[syncing])
	before := share(tree, "before")
	e.set(func() { e.fail = errors.New("not yet") })
	if err := p.Sync(bg); err == nil {
		t.Fatal("the commit worked")
	}
	write(t, p, open, 0, want[open])
	for i, src := range []uint64{tree, syncing, open, before} {
		again := share(src, string(rune('a'+i)))
		share(again, string(rune('A'+i)))
	}
	check("while the commit fails")
	// The sources change in the group that shares them, and after it.
	changed := append(noise(9, ondisk.LogicalBlock), want[syncing][ondisk.LogicalBlock:]...)
	write(t, p, syncing, 0, changed[:ondisk.LogicalBlock])
	copyOfOpen := bytes.Clone(want[open])
	write(t, p, open, 70000, []byte("changed"))
	copy(copyOfOpen[70000:], "changed")
	for dst, src := range copies {
		want[dst] = want[src]
	}
	want[syncing], want[open] = changed, copyOfOpen
	check("after the sources changed")
	call(t, p, func(tx *Txn) error { tx.DeleteInode(tree); return tx.RemoveDirent(1, "tree") })
	delete(want, tree)
	e.set(func() { e.fail = nil })
	mustSync(t, p)
	check("committed")
	for _, c := range []struct {
		src, dst uint64
		n        int
	}{
		{syncing, lookup(t, p, "b"), 3}, {syncing, lookup(t, p, "B"), 3},
		{open, lookup(t, p, "c"), 3}, {open, lookup(t, p, "C"), 3},
		{before, lookup(t, p, "a"), 4}, {before, lookup(t, p, "D"), 4},
	} {
		if n := same(addresses(t, p, c.src), addresses(t, p, c.dst)); n != c.n {
			t.Errorf("%d and %d share %d blocks, want %d", c.src, c.dst, n, c.n)
		}
	}
	crash(p)
	p, _ = openFake(t, Options{}, dev)
	defer crash(p)
	check("after a crash")
}

func lookup(t *testing.T, p *Pool, name string) uint64 {
	t.Helper()
	d, ok, err := p.Lookup(bg, 1, name)
	if err != nil || !ok {
		t.Fatal(name, ok, err)
	}
	return d.Inum
}

// A target's settings decide whether it may have a block as it is stored.
func TestShareHeedsSettings(t *testing.T) {
	p, _ := openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
	defer crash(p)
	text := bytes.Repeat([]byte("compresses well. "), 2*ondisk.LogicalBlock/17)
	for i, c := range []struct {
		content     []byte
		comp        ondisk.CompMethod
		check       ondisk.CheckMethod
		shared      bool
		unknownCode bool
	}{
		{text, ondisk.CompLZ4, ondisk.CheckXXHash64, true, false},
		{text, ondisk.CompNone, ondisk.CheckXXHash64, false, false},
		{text, ondisk.CompZlib, ondisk.CheckXXHash64, false, false},
		{text, ondisk.CompLZ4, ondisk.CheckSHA192, false, false},
		{noise(1, len(text)), ondisk.CompNone, ondisk.CheckXXHash64, true, false},
		{noise(2, len(text)), ondisk.CompZlib, ondisk.CheckXXHash64, true, false},
		{noise(3, len(text)), ondisk.CompLZ4, ondisk.CheckNone, false, true},
	} {
		src, dst := makeFile(t, p, 1, string(rune('a'+i)), ondisk.ObjFile), makeFile(t, p, 1, string(rune('A'+i)), ondisk.ObjFile)
		in := fileMeta(src, uint64(len(text)))
		in.Meta.CompAlgo, in.Meta.CheckAlgo = uint8(ondisk.CompLZ4), uint8(ondisk.CheckXXHash64)
		out := fileMeta(dst, uint64(len(text)))
		out.Meta.CompAlgo, out.Meta.CheckAlgo = uint8(c.comp), uint8(c.check)
		if c.unknownCode {
			in.Meta.CheckAlgo = uint8(ondisk.CheckNone)
		}
		call(t, p, func(tx *Txn) error { tx.PutInode(in); return tx.WriteData(bg, src, 0, c.content) })
		mustSync(t, p)
		call(t, p, func(tx *Txn) error {
			tx.PutInode(out)
			_, err := tx.ShareData(bg, src, 0, dst, 0, uint64(len(text)))
			return err
		})
		mustSync(t, p)
		if n := same(addresses(t, p, src), addresses(t, p, dst)); (n == 2) != c.shared || n == 1 {
			t.Errorf("%v, %v: %d blocks shared, want %v", c.comp, c.check, n, c.shared)
		}
		if err := compareFile(p, dst, c.content); err != nil {
			t.Error(err)
		}
	}
}

// What shares is part of what a batch's hash covers.
func TestManifestKnowsShares(t *testing.T) {
	seen := map[[32]byte]string{}
	base := chain.Share{Inum: 1030, Key: 1 << 16, ModifyTid: 7, Radix: 12, Comp: 2, Check: 3}
	for _, c := range []struct {
		name   string
		change func(*chain.Share)
	}{
		{"as it is", func(*chain.Share) {}},
		{"inode", func(s *chain.Share) { s.Inum++ }},
		{"key", func(s *chain.Share) { s.Key = 0 }},
		{"tid", func(s *chain.Share) { s.ModifyTid++ }},
		{"radix", func(s *chain.Share) { s.Radix++ }},
		{"compression", func(s *chain.Share) { s.Comp = 0 }},
		{"check method", func(s *chain.Share) { s.Check = 4 }},
		{"code", func(s *chain.Share) { s.Code[5]++ }},
	} {
		s := base
		c.change(&s)
		m := Manifest(&chain.Batch{T: 9, Changes: []chain.Change{{Inum: 1024, Kind: chain.KindData, Share: &s}}})
		if other, ok := seen[m]; ok {
			t.Errorf("%s has the hash of %s", c.name, other)
		}
		seen[m] = c.name
	}
}

// Once a group is in the tree, what it shares is found at the place that got it
// if the place that it was taken from has other content by then.
func TestSharedBlockIsFoundAfterItsSourceChanged(t *testing.T) {
	p, _ := openFake(t, Options{Commit: time.Hour}, formatted(t, 256<<20))
	defer crash(p)
	src, dst := makeFile(t, p, 1, "src", ondisk.ObjFile), makeFile(t, p, 1, "dst", ondisk.ObjFile)
	content, other := noise(1, ondisk.LogicalBlock), noise(2, ondisk.LogicalBlock)
	write(t, p, src, 0, content)
	mustSync(t, p)
	refs := func(inum uint64) (out []ondisk.Blockref) {
		s := p.acquire()
		defer s.release()
		err := s.views[0].View.DataRefs(bg, inum, 0, maxData, func(r *ondisk.Blockref) bool { out = append(out, *r); return true })
		if err != nil || len(out) != 1 {
			t.Fatal(out, err)
		}
		return out
	}
	share, ok := chain.ShareOf(src, &refs(src)[0])
	if !ok {
		t.Fatal("it cannot be shared")
	}
	meant := &source{*share, ondisk.LogicalBlock, nil}
	shareAll(t, p, src, dst, ondisk.LogicalBlock)
	write(t, p, src, 0, other)
	mustSync(t, p)
	at := refs(dst)[0]
	s := p.acquire()
	defer s.release()
	found, err := meant.find(bg, s.views[0].View, dst, 0)
	if err != nil || found.Off() != at.Off() {
		t.Errorf("found %v, want %v: %v", &found, &at, err)
	}
	if _, err := meant.find(bg, s.views[0].View, src, 0); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("a block that is nowhere: %v", err)
	}
}
