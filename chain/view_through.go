package chain

import (
	"context"
	"encoding/binary"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A BlockCache keeps stored blocks of views somewhere that is quicker than the
// devices they come from. It may lose, mix up or damage all it was given at any
// time: what it returns is verified as if it came from the device.
type BlockCache interface {
	// Open reports whether there is anything to ask or to give.
	Open() bool
	// Get returns the n bytes of a block that good accepts; false if they are
	// not there, are others by now, or do not come in time.
	Get(ctx context.Context, id *BlockID, n int, good func([]byte) error) ([]byte, bool)
	// Has guesses whether a Get is worth the try.
	Has(id *BlockID) bool
	// Put offers a verified block, which it copies. It never waits.
	Put(id *BlockID, stored []byte)
}

// A BlockID tells a block from every other that was or will be written, so that
// what was kept under it is never out of date. Data is the leaf of an inode, at
// a key, of a txg: the same on all nodes. All else is a node's own business, and
// known by where it lies there, and since when. The check code is in it, too:
// numbers may return when images of all nodes are restored.
type BlockID [116]byte

// The parts of a BlockID.
const (
	idScope  = 0  // the volume; zero for data
	idOwner  = 16 // inode; for all else the address
	idKey    = 24
	idTid    = 32 // of the change
	idMirror = 40 // zero for data
	idCheck  = 48
	idType   = 112 // and methods, radix
)

// newBlockID returns the id of ref's block in the tree of o, on that volume.
// Blocks without a check code have none: they could not be verified.
func newBlockID(volume ondisk.UUID, o owner, ref *ondisk.Blockref) (id BlockID, ok bool) {
	if _, ok := keyOf(ref); !ok || ref.DataOff == 0 {
		return id, false
	}
	le := binary.LittleEndian
	if ref.Type == ondisk.TypeData && o.inum != 0 {
		le.PutUint64(id[idOwner:], o.inum)
	} else {
		copy(id[idScope:], volume[:])
		le.PutUint64(id[idOwner:], ref.Off())
		le.PutUint64(id[idMirror:], uint64(ref.MirrorTid))
	}
	le.PutUint64(id[idKey:], ref.Key)
	le.PutUint64(id[idTid:], uint64(ref.ModifyTid))
	copy(id[idCheck:idType], ref.Code())
	id[idType], id[idType+1] = uint8(ref.Type), uint8(ref.CheckMethod())
	id[idType+2], id[idType+3] = uint8(ref.CompMethod()), ref.Radix()
	return id, true
}

// Through returns the view with c in front of the volume, and takes over the
// caller's hold on it. What was decoded already stays decoded.
func (v *View) Through(c BlockCache) *View {
	vol, ok := v.reader.src.(*Volume)
	if !ok {
		return v // of a transaction, or through one already
	}
	vol.mu.Lock()
	id := vol.hdr.Fsid
	vol.mu.Unlock()
	w := &View{root: v.root, release: v.Release}
	w.reader = treeReader{&cachedSource{cache: c, vol: vol, id: id}, v.reader.cache}
	w.refs.Store(1)
	return w
}

// A cachedSource reads from a cache what is there, the rest from the volume.
type cachedSource struct {
	cache BlockCache
	vol   *Volume
	id    ondisk.UUID // of the volume
	own   owner       // whose data is read; zero for all else
}

// dataOf is the source of the data blocks of o.
func (r *treeReader) dataOf(o owner) blockSource {
	s, ok := r.src.(*cachedSource)
	if !ok {
		return r.src
	}
	own := *s
	own.own = o
	return &own
}

// uncached is the volume that is read without a cache in between; nil if there
// is one.
func (r *treeReader) uncached() *Volume {
	switch s := r.src.(type) {
	case *Volume:
		return s
	case *cachedSource:
		if !s.cache.Open() {
			return s.vol
		}
	}
	return nil
}

func (s *cachedSource) readRaw(ctx context.Context, ref *ondisk.Blockref) ([]byte, error) {
	if !s.cache.Open() {
		return s.vol.readRaw(ctx, ref)
	}
	id, known := newBlockID(s.id, s.own, ref)
	if known {
		if b, ok := s.cache.Get(ctx, &id, ref.Size(), ref.VerifyCheck); ok {
			return b, nil
		}
	}
	b, err := s.vol.readRaw(ctx, ref)
	if err == nil && known {
		s.cache.Put(&id, b)
	}
	return b, err
}

// readMany asks the volume for as many at once as lie between two that the
// cache has.
func (s *cachedSource) readMany(ctx context.Context, refs []ondisk.Blockref, fn func(i int, stored []byte) error) error {
	if !s.cache.Open() {
		return s.vol.readMany(ctx, refs, fn)
	}
	from := 0 // the first that is not answered yet
	for i := range refs {
		if err := ctx.Err(); err != nil {
			return err
		}
		id, known := newBlockID(s.id, s.own, &refs[i])
		if !known || !s.cache.Has(&id) {
			continue
		}
		b, ok := s.cache.Get(ctx, &id, refs[i].Size(), refs[i].VerifyCheck)
		if !ok {
			continue
		}
		if err := s.readRest(ctx, refs[from:i], from, fn); err != nil {
			return err
		}
		if err := fn(i, b); err != nil {
			return err
		}
		from = i + 1
	}
	return s.readRest(ctx, refs[from:], from, fn)
}

// readRest reads from the volume, and offers what it got to the cache.
func (s *cachedSource) readRest(ctx context.Context, refs []ondisk.Blockref, first int, fn func(i int, stored []byte) error) error {
	if len(refs) == 0 {
		return nil
	}
	return s.vol.readMany(ctx, refs, func(i int, stored []byte) error {
		if id, ok := newBlockID(s.id, s.own, &refs[i]); ok {
			s.cache.Put(&id, stored)
		}
		return fn(first+i, stored)
	})
}
