package hostile

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// Where a header has what is changed here. The offsets in blockrefs and inodes
// are beside the mutations.
const (
	srootAt   = 0x200
	freemapAt = 0x800
	markAt    = 0x9000
	statesAt  = 0x9040
	codesAt   = 0x1F8
	wholeAt   = 0xFFFC
)

// An Image is a volume on its way to being hostile.
type Image struct {
	Seed uint64
	Done []string // what was done to it, for people

	// Trusted: what was done is of the kind that our own mark vouches against.
	Trusted bool
	// Ours: the header carries our mark, if it did before.
	Ours bool
	// Flagrant: fsck must say something.
	Flagrant bool

	p      *Plan
	rnd    *rand.Rand
	devs   []*memdev.Device
	dirty  map[int][]byte // blocks with their new content
	aimed  map[int]bool   // sites that refer to something else than they did
	kept   map[int]bool   // sites whose codes stay as they are
	harmed map[int]bool   // PFSs that something was done to
	above  bool           // something was done to super-root or header
	spare  uint64         // end of the space for blocks of our own
}

// New makes the image of a seed.
func (p *Plan) New(seed uint64) *Image {
	im := p.blank(seed)
	for range 1 + im.rnd.IntN(3) {
		for !im.mutate(&mutations[im.rnd.IntN(len(mutations)-1)]) {
			continue // it needs something that this volume does not have
		}
	}
	if seed%8 == 4 {
		im.mutate(&forgery)
	}
	im.seal()
	return im
}

// With is New with the mutation of that name alone. ok is false if the volume
// has nothing that it could be done to.
func (p *Plan) With(name string, seed uint64) (im *Image, ok bool) {
	im = p.blank(seed)
	for i := range mutations {
		if mutations[i].name == name {
			ok = im.mutate(&mutations[i])
		}
	}
	im.seal()
	return im, ok
}

// Patch is the image with bytes of one block replaced.
func (p *Plan) Patch(block, at int, bytes []byte, ours bool) *Image {
	im := p.blank(uint64(block)<<16 | uint64(at))
	n := block % len(p.blocks)
	raw := im.content(n)
	copy(raw[at%len(raw):], bytes)
	im.Ours, im.Trusted = ours, true
	im.Done = append(im.Done, fmt.Sprintf("%x at %#x of block %#x", bytes, at%len(raw), p.blocks[n].ref.Off()))
	im.seal()
	return im
}

func (p *Plan) blank(seed uint64) *Image {
	im := &Image{
		Seed: seed, p: p, rnd: rand.New(rand.NewPCG(seed, 11)),
		dirty: make(map[int][]byte), aimed: make(map[int]bool), kept: make(map[int]bool), harmed: make(map[int]bool),
	}
	for _, d := range p.devs {
		im.devs = append(im.devs, d.Clone())
	}
	last := len(p.devs) - 1
	im.spare = p.loff[last] + uint64(p.devs[last].Size())&^(ondisk.VolumeAlign-1)
	im.Ours = im.rnd.IntN(2) == 0
	return im
}

func (im *Image) mutate(m *mutation) bool {
	what := m.do(im)
	if what == "" {
		return false
	}
	im.Done = append(im.Done, m.name+": "+what)
	im.Trusted = im.Trusted || m.trusted
	im.Flagrant = im.Flagrant || m.flagrant
	return true
}

// String says what was done.
func (im *Image) String() string {
	mark := "foreign mark"
	if im.Ours {
		mark = "our mark"
	}
	return fmt.Sprintf("%s, seed %d, %s: %s", im.p.Name, im.Seed, mark, strings.Join(im.Done, "; "))
}

// Devices returns copies of the image's devices, for one use.
func (im *Image) Devices() []*memdev.Device {
	var list []*memdev.Device
	for _, d := range im.devs {
		list = append(list, d.Clone())
	}
	return list
}

// Whole lists the PFSs that nothing was done to. They are whole if the way to
// them is: Above says that it may not be.
func (im *Image) Whole() (labels []string) {
	for n, label := range im.p.pfs {
		if !im.harmed[n] {
			labels = append(labels, label)
		}
	}
	return labels
}

// Above reports whether something was done to header or super-root.
func (im *Image) Above() bool { return im.above }

// content is the content of a block, to be changed by the caller.
func (im *Image) content(n int) []byte {
	if b := im.dirty[n]; b != nil {
		return b
	}
	b := &im.p.blocks[n]
	buf := make([]byte, ondisk.HeaderSize)
	if n == header {
		im.read(uint64(im.p.slot), buf)
	} else {
		buf = buf[:b.ref.Size()]
		im.read(b.ref.Off(), buf)
	}
	im.dirty[n] = buf
	if len(b.pfs) == 0 {
		im.above = im.above || b.ref.Type < ondisk.TypeFreemapNode
	}
	for pfs := range b.pfs {
		im.harmed[pfs] = true
	}
	return buf
}

// element is the 128 bytes of a site, to be changed by the caller.
func (im *Image) element(s int) []byte {
	st := &im.p.sites[s]
	return im.content(st.in)[st.at:][:ondisk.BlockrefSize]
}

func (im *Image) read(off uint64, p []byte) {
	for i := len(im.p.loff) - 1; i >= 0; i-- {
		if off >= im.p.loff[i] {
			if _, err := im.devs[i].ReadAt(p, int64(off-im.p.loff[i])); err != nil {
				clear(p) // outside: whatever is there
			}
			return
		}
	}
}

func (im *Image) write(off uint64, p []byte) {
	for i := len(im.p.loff) - 1; i >= 0; i-- {
		if off >= im.p.loff[i] {
			if _, err := im.devs[i].WriteAt(p, int64(off-im.p.loff[i])); err != nil {
				panic(fmt.Sprintf("hostile: writing the image: %v", err))
			}
			return
		}
	}
}

// place writes a block of our own into space that nobody uses, and returns
// its data_off.
func (im *Image) place(block []byte) uint64 {
	size := uint64(max(len(block), ondisk.ChunkSize))
	im.spare -= size
	im.spare &^= size - 1
	im.write(im.spare, block)
	return ondisk.MakeDataOff(im.spare, ondisk.DataRadix(len(block)))
}

// seal writes all that was changed and makes the codes right on the way up.
func (im *Image) seal() {
	im.sign()
	for _, n := range im.p.order {
		buf := im.dirty[n]
		if buf == nil {
			continue
		}
		b := &im.p.blocks[n]
		for _, s := range b.kids {
			if im.aimed[s] && !im.kept[s] {
				im.code(buf[im.p.sites[s].at:][:ondisk.BlockrefSize], nil)
			}
		}
		if n == header {
			sealHeader(buf)
			im.write(uint64(im.p.slot), buf)
			continue
		}
		im.write(b.ref.Off(), buf)
		harmed, above := im.harmed, im.above
		im.harmed = make(map[int]bool) // the way up is not to blame
		for _, s := range b.sites {
			raw := im.element(s)
			if !im.aimed[s] && !im.kept[s] && binary.LittleEndian.Uint64(raw[refDataOff:]) == b.ref.DataOff {
				im.code(raw, buf)
			}
		}
		im.harmed, im.above = harmed, above
	}
}

// code puts the right code for block into the element raw, by its method;
// nil: for what is on the device.
func (im *Image) code(raw, block []byte) {
	var ref ondisk.Blockref
	ref.Type, ref.Methods = ondisk.BlockType(raw[refType]), raw[refMethods]
	ref.DataOff = binary.LittleEndian.Uint64(raw[refDataOff:])
	if r := ref.Radix(); r < ondisk.MinRadix || r > ondisk.MaxRadix || ref.CheckMethod() > ondisk.CheckFreemap {
		return
	}
	if block == nil {
		block = make([]byte, ref.Size())
		im.read(ref.Off(), block)
	}
	if len(block) != ref.Size() {
		return
	}
	copy(ref.Check[:], raw[refCheck:])
	if ref.CheckMethod() != ondisk.CheckNone && ref.CheckMethod() != ondisk.CheckDisabled {
		ref.SetCheck(block)
	}
	copy(raw[refCheck:], ref.Check[:])
}

// sign gives the header a mark that is somebody else's, or leaves it.
func (im *Image) sign() {
	above := im.above
	h := im.content(header)
	im.above = above
	if !im.Ours {
		copy(h[markAt:], "SOMEBODY")
	}
}

// sealHeader makes the three codes right.
func sealHeader(h []byte) {
	le := binary.LittleEndian
	le.PutUint32(h[codesAt:], ondisk.CRC32C(h[srootAt:2*srootAt]))
	le.PutUint32(h[codesAt+4:], ondisk.CRC32C(h[:codesAt+4]))
	le.PutUint32(h[wholeAt:], ondisk.CRC32C(h[:wholeAt]))
}
