package ondisk

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestInodeTimes(t *testing.T) {
	var m InodeMeta
	m.SetMtime(1700000000, 123456789)
	m.SetCtime(1700000001, 1)
	m.SetBtime(1700000002, 999999999)
	check := func(what string, sec int64, nsec uint32, wantSec int64, wantNsec uint32) {
		t.Helper()
		if sec != wantSec || nsec != wantNsec {
			t.Errorf("%s: %d.%09d, want %d.%09d", what, sec, nsec, wantSec, wantNsec)
		}
	}
	sec, nsec := m.AtimeNs()
	check("atime 0 is mtime", sec, nsec, 1700000000, 123456789)
	m.SetAtime(1700000003, 5000)
	sec, nsec = m.MtimeNs()
	check("mtime", sec, nsec, 1700000000, 123456789)
	sec, nsec = m.CtimeNs()
	check("ctime", sec, nsec, 1700000001, 1)
	sec, nsec = m.BtimeNs()
	check("btime", sec, nsec, 1700000002, 999999999)
	sec, nsec = m.AtimeNs()
	check("atime", sec, nsec, 1700000003, 5000)

	// Someone who does not know the word changes the microseconds.
	m.Mtime++
	sec, nsec = m.MtimeNs()
	check("stale nanoseconds", sec, nsec, 1700000000, 123457000)

	m.SetMtime(-5, 7)
	sec, nsec = m.MtimeNs()
	check("before 1970", sec, nsec, 0, 0)
	m.SetAtime(0, 0)
	sec, nsec = m.AtimeNs()
	check("atime of 1970", sec, nsec, 0, 1000)
	m.SetMtime(math.MaxInt64, 0)
	if m.Mtime > math.MaxInt64 {
		t.Errorf("far future: %#x", m.Mtime)
	}
	m.Nanos = 0x3ff // 1023 ns beyond microsecond 0
	m.Mtime = 64
	sec, nsec = m.MtimeNs()
	check("impossible nanoseconds", sec, nsec, 0, 64000)
}

func TestInodeMeta(t *testing.T) {
	m := NewInodeMeta(0x40b, ObjFile)
	if m.Name() != "0x000000000000040b" || m.NameLen != 18 || m.NameKey != 0x40b || m.Version != 1 {
		t.Errorf("%+v", m)
	}
	m.Filename = "ab"
	m.NameLen = 4
	if m.Name() != "ab\x00\x00" {
		t.Errorf("short area: %q", m.Name())
	}
	for what, change := range map[string]func(*InodeMeta){
		"version 2":        func(m *InodeMeta) { m.Version = 2 },
		"type 3":           func(m *InodeMeta) { m.Type = 3 },
		"name of 257":      func(m *InodeMeta) { m.NameLen = 257 },
		"padded filename":  func(m *InodeMeta) { m.Filename = "x\x00" },
		"inline directory": func(m *InodeMeta) { m.Type, m.OpFlags = ObjDir, OpDirectData },
		"513 bytes inline": func(m *InodeMeta) { m.OpFlags, m.Size = OpDirectData, 513 },
		"negative size":    func(m *InodeMeta) { m.Size = 1 << 63 },
		"filename of 300":  func(m *InodeMeta) { m.Filename = strings.Repeat("f", 300) },
	} {
		m := NewInodeMeta(7, ObjFile)
		change(&m)
		if err := m.Validate(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Any byte of the first half survives, the reserved ones included.
func TestInodeKeepsEveryByte(t *testing.T) {
	b := make([]byte, InodeSize)
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	m := NewInodeMeta(9, ObjFile)
	fixed := make([]byte, InodeMetaSize)
	m.Encode(fixed)
	copy(b[inoVersion:2], fixed[inoVersion:2])
	b[inoType], b[inoOpFlags] = uint8(ObjFile), OpDirectData
	copy(b[inoSize:inoSize+8], make([]byte, 8))
	copy(b[inoNameLen:inoNameLen+2], []byte{200, 0})
	ino, err := DecodeInode(b)
	if err != nil {
		t.Fatal(err)
	}
	again := make([]byte, InodeSize)
	ino.Encode(again)
	for i := range b {
		if b[i] != again[i] {
			t.Errorf("byte %#x: %#x, was %#x", i, again[i], b[i])
		}
	}
}

func TestXattrs(t *testing.T) {
	in := []Xattr{
		{"security.x", nil}, {"user.a", []byte("1234567")}, {"user.b", bytes.Repeat([]byte("v"), XattrValueMax)},
	}
	b, err := EncodeXattrs(in)
	if err != nil || len(b)%8 != 0 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	out, err := DecodeXattrs(b)
	if err != nil || len(out) != len(in) {
		t.Fatalf("%d attributes, %v", len(out), err)
	}
	for i := range in {
		if in[i].Name != out[i].Name || !bytes.Equal(in[i].Value, out[i].Value) {
			t.Errorf("attribute %d is %q", i, out[i].Name)
		}
	}
	for what, attrs := range map[string][]Xattr{
		"unsorted":   {{"b", nil}, {"a", nil}},
		"twice":      {{"a", nil}, {"a", nil}},
		"no name":    {{"", nil}},
		"NUL":        {{"a\x00b", nil}},
		"long name":  {{strings.Repeat("n", 256), nil}},
		"long value": {{"a", make([]byte, XattrValueMax+1)}},
	} {
		if _, err := EncodeXattrs(attrs); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	var many []Xattr
	for i := range 17 {
		many = append(many, Xattr{string(rune('a' + i)), make([]byte, XattrValueMax)})
	}
	if _, err := EncodeXattrs(many); err == nil {
		t.Error("more than a megabyte: accepted")
	}
	for what, change := range map[string]func([]byte) []byte{
		"magic":    func(b []byte) []byte { b[0] = 'X'; return b },
		"count":    func(b []byte) []byte { b[8]++; return b },
		"4 G":      func(b []byte) []byte { b[11] = 0xff; return b },
		"cut":      func(b []byte) []byte { return b[:len(b)-8] },
		"longer":   func(b []byte) []byte { return append(b, 0, 0, 0, 0, 0, 0, 0, 0) },
		"reserved": func(b []byte) []byte { b[12] = 1; return b },
		"value":    func(b []byte) []byte { b[16+7] = 1; return b },
	} {
		if _, err := DecodeXattrs(change(bytes.Clone(b))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("damaged %s: %v", what, err)
		}
	}
	if b, err := EncodeXattrs(nil); err != nil || len(b) != 16 {
		t.Errorf("no attributes: %d bytes, %v", len(b), err)
	}
}

func TestFreemapEntry(t *testing.T) {
	var e FreemapEntry
	if e.FreeChunks() != ChunksPerSegment {
		t.Errorf("%d free chunks", e.FreeChunks())
	}
	for n := range ChunksPerSegment {
		e.SetState(n, ChunkAllocated)
		e.SetState(n, []uint8{ChunkFree, ChunkStaged, ChunkAllocated}[n%3])
	}
	for n := range ChunksPerSegment {
		if want := []uint8{ChunkFree, ChunkStaged, ChunkAllocated}[n%3]; e.State(n) != want {
			t.Errorf("chunk %d: %d, want %d", n, e.State(n), want)
		}
	}
	// Format section 26: chunks 0..4 allocated is 0x3ff.
	e = FreemapEntry{}
	for n := range 5 {
		e.SetState(n, ChunkAllocated)
	}
	if e.Bitmap[0] != 0x3ff || e.FreeChunks() != 251 {
		t.Errorf("%#x, %d free", e.Bitmap[0], e.FreeChunks())
	}
	for what, e := range map[string]FreemapEntry{
		"state 1":         {Bitmap: [8]uint64{1 << 6}},
		"avail":           {Avail: 5 << 20},
		"part of a chunk": {Avail: 100},
		"linear":          {Linear: SegmentSize + 1},
		"below":           {Linear: -1},
	} {
		if err := e.Validate(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func newHeader() *VolumeHeader {
	h := &VolumeHeader{
		BootBeg: 4 << 20, BootEnd: 12 << 20, AuxBeg: 12 << 20, AuxEnd: 20 << 20,
		VoluSize: 64 << 20, TotalSize: 64 << 20, Version: 2, NVolumes: 1, PeerType: PeerType,
		Fsid: NewUUID(), Fstype: FSType, AllocatorSize: 44 << 20, AllocatorFree: 44 << 20,
		AllocatorBeg: 20<<20 + 3072, MirrorTid: 17, FreemapTid: 17,
	}
	for i := 1; i < MaxVolumes; i++ {
		h.VoluLoff[i] = math.MaxUint64
	}
	return h
}

func TestVolumeHeader(t *testing.T) {
	h := newHeader()
	h.Mark = Mark{MirrorTid: 17, Writer: NewUUID(), Since: 16}
	h.States = []StateEntry{{Fsid: NewUUID(), PromisedEpoch: 3, ConfigVersion: 1, Candidate: 5, T: MakeTid(3, 9),
		H: [16]byte{1}, Flags: 2, ResyncGoal: 4, ShadowKey: 6, Incarnation: NewUUID(), Acked: MakeTid(3, 8), AckedBy: 1<<63 | 5}}
	b := make([]byte, HeaderSize)
	h.Encode(b)
	got, err := DecodeVolumeHeader(b)
	if err != nil || !got.sameFields(h) || !got.WrittenByUs() {
		t.Fatalf("%+v, %v", got, err)
	}
	if got.State(h.States[0].Fsid) == nil || got.State(UUID{1}) != nil {
		t.Error("state is not found by its fsid")
	}
	// Another writer keeps the bytes but moves on.
	got.MirrorTid++
	if got.WrittenByUs() {
		t.Error("a foreign header passes for ours")
	}
	c := got.Clone()
	c.States[0].Flags = 99
	if got.States[0].Flags != 2 {
		t.Error("a clone shares states")
	}
	// What we leave out goes away; what we do not know stays.
	c.raw[0x5000] = 7
	c.Mark, c.States = Mark{}, nil
	c.Encode(b)
	if got, err := DecodeVolumeHeader(b); err != nil || got.Mark != (Mark{}) || got.States != nil || b[0x5000] != 7 {
		t.Errorf("mark %+v, states %d, byte %d, %v", got.Mark, len(got.States), b[0x5000], err)
	}
}

func TestVolumeHeaderDamage(t *testing.T) {
	good := make([]byte, HeaderSize)
	newHeader().Encode(good)
	for _, c := range []struct {
		what string
		at   int
		want error
		part string
	}{
		{"magic", 3, ErrNotHammer2, ""},
		{"sector 0", 0x60, ErrCorrupt, "sector 0"},
		{"sector 1", 0x210, ErrCorrupt, "sector 1"},
		{"the rest", 0x9000, ErrCorrupt, "whole header"},
		{"last code", 0xffff, ErrCorrupt, "whole header"},
	} {
		b := bytes.Clone(good)
		b[c.at] ^= 1
		if _, err := DecodeVolumeHeader(b); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	b := bytes.Clone(good)
	for i := range 8 {
		b[i] = good[7-i]
	}
	if _, err := DecodeVolumeHeader(b); err != ErrByteOrder {
		t.Errorf("byte order: %v", err)
	}
	if _, err := DecodeVolumeHeader(good[:512]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short: %v", err)
	}
}

func TestVolumeHeaderValidate(t *testing.T) {
	for what, change := range map[string]func(h *VolumeHeader){
		"version 3":     func(h *VolumeHeader) { h.Version = 3 },
		"version 0":     func(h *VolumeHeader) { h.Version = 0 },
		"fstype":        func(h *VolumeHeader) { h.Fstype = UUID{1} },
		"size":          func(h *VolumeHeader) { h.VoluSize++ },
		"no volumes":    func(h *VolumeHeader) { h.NVolumes = 0 },
		"65 volumes":    func(h *VolumeHeader) { h.NVolumes = 65 },
		"volume 1 of 1": func(h *VolumeHeader) { h.VoluID = 1 },
		"total":         func(h *VolumeHeader) { h.TotalSize = 128 << 20 },
		"aux":           func(h *VolumeHeader) { h.AuxEnd = 65 << 20 },
		"allocator":     func(h *VolumeHeader) { h.AllocatorBeg = 65 << 20 },
		"sroot":         func(h *VolumeHeader) { h.Sroot[1] = Blockref{Type: TypeData} },
		"dirty sroot":   func(h *VolumeHeader) { h.Sroot[1].Flags = 1 },
		"freemap":       func(h *VolumeHeader) { h.Freemap[0] = Blockref{Type: TypeInvalid} },
		"dirty freemap": func(h *VolumeHeader) { h.Freemap[0].Flags = 1 },
		"many states":   func(h *VolumeHeader) { h.States = make([]StateEntry, 17) },
		"zero state":    func(h *VolumeHeader) { h.States = make([]StateEntry, 1) },
	} {
		h := newHeader()
		change(h)
		if err := h.Validate(); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h := newHeader()
	h.Version = 3
	if err := h.Validate(); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "3") {
		t.Errorf("version: %v", err)
	}
}

func TestSlotOffsets(t *testing.T) {
	const g, m = int64(1 << 30), int64(1 << 20)
	for size, want := range map[int64]int{
		2 * m: 0, 64 * m: 1, 2 * g: 1, 2*g + 4*m - 1: 1, 2*g + 4*m: 2, 4 * g: 2, 7 * g: 4, 100 * g: 4,
	} {
		got := SlotOffsets(uint64(size))
		if len(got) != want || want == 4 && got[3] != 6*g {
			t.Errorf("%d bytes: %v", size, got)
		}
	}
}
