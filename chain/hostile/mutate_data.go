package hostile

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// pickData chooses a data block stored in one of these ways.
func (im *Image) pickData(comp ...ondisk.CompMethod) (s int, raw []byte) {
	s = im.pick(func(s *site) bool {
		return s.ref.Type == ondisk.TypeData && bytes.ContainsRune([]byte{byte(comp[0]), byte(comp[len(comp)-1])}, rune(s.ref.CompMethod()))
	})
	if s < 0 {
		return -1, nil
	}
	return s, im.content(im.p.sites[s].to)
}

// bomb fills a block with what decodes to far more than a file block holds.
func bomb(im *Image) string {
	s, raw := im.pickData(ondisk.CompNone, ondisk.CompLZ4)
	if s < 0 {
		return ""
	}
	el := im.element(s)
	clear(raw)
	if im.rnd.IntN(2) == 0 {
		el[refMethods] = el[refMethods]&0xF0 | byte(ondisk.CompZlib)
		var b bytes.Buffer
		z, _ := zlib.NewWriterLevel(&b, 9)
		zeros := make([]byte, 1<<16)
		for b.Len() < 256 && b.Len() < len(raw)/2 {
			z.Write(zeros)
			z.Flush()
		}
		z.Close()
		copy(raw, b.Bytes())
		return im.where(s) + " zlib"
	}
	// One literal, then a match whose length goes on for the whole block.
	el[refMethods] = el[refMethods]&0xF0 | byte(ondisk.CompLZ4)
	binary.LittleEndian.PutUint32(raw, uint32(len(raw)-4))
	raw[4], raw[5], raw[6], raw[7] = 0x1F, 'x', 1, 0
	for i := 8; i < len(raw)-8; i++ {
		raw[i] = 0xFF
	}
	return im.where(s) + " lz4"
}

func scribbleCompressed(im *Image) string {
	s, raw := im.pickData(ondisk.CompLZ4, ondisk.CompZlib)
	if s < 0 {
		return ""
	}
	if im.rnd.IntN(2) == 0 {
		binary.LittleEndian.PutUint32(raw, uint32(im.number()))
	} else {
		im.scribble(raw[:64])
	}
	return im.where(s)
}

func truncateCompressed(im *Image) string {
	s, raw := im.pickData(ondisk.CompLZ4, ondisk.CompZlib)
	if s < 0 {
		return ""
	}
	clear(raw[8+im.rnd.IntN(40):])
	return im.where(s)
}

// scribbleContent changes the content of the inode with a number that pleases.
func (im *Image) scribbleContent(ok func(inum uint64) bool) string {
	s := im.pick(func(s *site) bool {
		return s.ref.Type == ondisk.TypeInode && s.ref.Flags&ondisk.FlagPFSRoot == 0 && s.in != header && ok(s.ref.Key)
	})
	if s < 0 {
		return ""
	}
	n := im.p.sites[s].to
	if kids := im.p.blocks[n].kids; len(kids) > 0 {
		k := kids[im.rnd.IntN(len(kids))]
		raw := im.content(im.p.sites[k].to)
		im.scribble(raw[:min(len(raw), 160)])
		return im.inode(n) + ", in " + im.where(k)
	}
	im.scribble(im.content(n)[ondisk.InodeMetaSize:][:64])
	return im.inode(n)
}

func scribbleAttributes(im *Image) string {
	return im.scribbleContent(func(inum uint64) bool { return inum&ondisk.AttrBit != 0 })
}

func scribbleCharter(im *Image) string {
	return im.scribbleContent(func(inum uint64) bool { return inum == ondisk.InumCluster })
}

// laughs makes tables that refer to one table many times over, level below
// level: walked without a bound, there are more leaves than atoms.
func laughs(im *Image) string {
	s := im.pickTable()
	if s < 0 {
		return ""
	}
	const fan, step = 32, 5 // 2^step elements
	levels := 4 + im.rnd.IntN(8)
	check := []ondisk.CheckMethod{ondisk.CheckXXHash64, ondisk.CheckDisabled}[im.rnd.IntN(2)]
	base := uint64(0)
	if r := &im.p.sites[s].ref; r.Key&ondisk.DirBit != 0 {
		base = ondisk.DirBit
	}
	below := ondisk.Blockref{Type: ondisk.TypeDirent, Key: ondisk.DirBit}
	if base == 0 {
		below = im.p.sites[s].ref // an element of its own kind
	}
	put64(below.Embed[:], 4711)
	for l := 1; l <= levels; l++ {
		block := make([]byte, fan*ondisk.BlockrefSize)
		for i := range fan {
			e := below
			if l > 1 || below.Type == ondisk.TypeDirent {
				e.Key = base + uint64(i)<<(step*(l-1))
			}
			if l > 1 || i == 0 || below.Type == ondisk.TypeDirent {
				encodeAnyway(block[i*ondisk.BlockrefSize:], &e)
			}
		}
		below = ondisk.Blockref{Type: ondisk.TypeIndirect, Key: base, KeyBits: uint8(step * l), MirrorTid: im.p.sites[s].ref.MirrorTid}
		below.SetMethods(check, ondisk.CompNone)
		below.DataOff = im.place(block)
		below.SetCheck(block)
	}
	im.blame(s)
	encodeAnyway(im.element(s), &below)
	im.kept[s] = true
	return fmt.Sprintf("%s, %d levels of %d, %v", im.where(s), levels, fan, check)
}

// encodeAnyway is Encode for elements that it may refuse.
func encodeAnyway(b []byte, r *ondisk.Blockref) {
	if r.Validate() == nil {
		r.Encode(b)
		return
	}
	b[refType], b[refMethods], b[refKeyBits], b[refFlags] = byte(r.Type), r.Methods, r.KeyBits, r.Flags
	put64(b[refKey:], r.Key)
	put64(b[refMirror:], uint64(r.MirrorTid))
	put64(b[refDataOff:], r.DataOff)
	copy(b[refEmbed:], r.Embed[:])
	copy(b[refCheck:], r.Check[:])
}

// inodeInItself makes an inode whose array refers to it, four times.
func inodeInItself(im *Image) string {
	n, raw := im.pickInode()
	if n < 0 {
		return ""
	}
	r := im.p.blocks[n].ref
	r.SetMethods(ondisk.CheckDisabled, ondisk.CompNone)
	t := []ondisk.BlockType{ondisk.TypeInode, ondisk.TypeInode, ondisk.TypeIndirect}[im.rnd.IntN(3)]
	raw[inoOpFlags] &^= ondisk.OpDirectData
	for i := range ondisk.InodeRefs {
		e := r
		e.Key += uint64(i)
		if e.Type = t; t == ondisk.TypeIndirect {
			e.KeyBits = 62
			e.Key = uint64(i) << 62
		}
		encodeAnyway(raw[ondisk.InodeMetaSize+i*ondisk.BlockrefSize:], &e)
	}
	for _, k := range im.p.blocks[n].kids {
		im.kept[k] = true
		im.blame(k)
	}
	// Who refers to it must do so without a code, or the code is wrong.
	for _, s := range im.p.blocks[n].sites {
		im.element(s)[refMethods] = byte(ondisk.CheckDisabled) << 4
	}
	return im.inode(n)
}
