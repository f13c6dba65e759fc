package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt maps its file and trusts it: a page that is not what it should be ends
// the process, and the mount with it. So the file is walked before it is opened,
// by reads, and nothing is followed that was not looked at.
//
// A page is a head of 16 bytes (number u64, kind u16, count u16, overflow u32),
// then count elements, then what they refer to by a distance from themselves. An
// element of a branch is (distance u32, key length u32, page u64), one of a leaf
// (bucket u32, distance u32, key length u32, value length u32).
const (
	pageHead   = 16
	elemSize   = 16
	bucketHead = 16 // root u64, sequence u64; root 0 = its page follows

	kindBranch   = 0x01
	kindLeaf     = 0x02
	kindFreelist = 0x10

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSum     = 56 // bytes of a meta before its check code
	metaSize    = metaSum + 8
	noFreelist  = ^uint64(0)
	maxDepth    = 32 // of a tree; a page that refers on and on is none of bbolt's
	minPage     = 1 << 10
	maxPage     = 1 << 16
)

var (
	// errDamaged: it was a ledger, and cannot be used any more.
	errDamaged = errors.New("damaged")
	// errForeign: nothing says that the file was a ledger.
	errForeign = errors.New("it is no ledger")
)

// order is the byte order of the file: this machine's.
var order = binary.NativeEndian

// A meta says where everything is; there are two, written in turn.
type meta struct {
	page           int64
	root, freelist uint64
	high           uint64 // pages from here on are not used
	txid           uint64
}

func decodeMeta(p []byte) (m meta, marked, ok bool) {
	p = p[pageHead:]
	if order.Uint32(p) != metaMagic {
		return m, false, false
	}
	h := fnv.New64a()
	h.Write(p[:metaSum])
	m = meta{int64(order.Uint32(p[8:])), order.Uint64(p[16:]), order.Uint64(p[32:]), order.Uint64(p[40:]), order.Uint64(p[48:])}
	ok = order.Uint32(p[4:]) == metaVersion && h.Sum64() == order.Uint64(p[metaSum:]) &&
		m.page >= minPage && m.page <= maxPage && m.page&(m.page-1) == 0
	return m, true, ok
}

// newest returns the meta that bbolt will choose.
func newest(f io.ReaderAt) (best meta, err error) {
	p := make([]byte, pageHead+metaSize)
	marked, found := false, false
	read := func(at int64) (m meta, ok bool) {
		if _, err := f.ReadAt(p, at); err != nil {
			return m, false
		}
		m, was, ok := decodeMeta(p)
		marked = marked || was
		return m, ok
	}
	best, found = read(0)
	sizes := []int64{best.page}
	if !found {
		sizes = sizes[:0]
		for s := int64(minPage); s <= maxPage; s *= 2 {
			sizes = append(sizes, s)
		}
	}
	for _, s := range sizes {
		if m, ok := read(s); ok && m.page == s && (!found || m.txid > best.txid) {
			best, found = m, true
		}
	}
	switch {
	case found:
		return best, nil
	case marked:
		return best, fmt.Errorf("%w: both of its heads are", errDamaged)
	default:
		return best, errForeign
	}
}

// A walk has been through the pages in seen.
type walk struct {
	f    io.ReaderAt
	page int64
	high uint64
	seen map[uint64]bool
}

// sound returns the names of the buckets of a file that bbolt can be trusted
// with. The file is locked.
func sound(f io.ReaderAt, size int64) (names []string, err error) {
	m, err := newest(f)
	if err != nil {
		return nil, err
	}
	if m.high < 2 || m.high > uint64(size/m.page) {
		return nil, fmt.Errorf("%w: it has %d bytes, and should have %d pages of %d", errDamaged, size, m.high, m.page)
	}
	w := &walk{f, m.page, m.high, map[uint64]bool{}}
	err = w.tree(m.root, func(key, value []byte, bucket bool) error {
		names = append(names, string(key))
		if !bucket || len(value) < bucketHead {
			return fmt.Errorf("%w: %q is no bucket", errDamaged, key)
		}
		return w.bucket(value)
	})
	if err == nil && m.freelist != noFreelist {
		err = w.free(m.freelist)
	}
	return names, err
}

// bucket walks one of ours: values, and no bucket in it.
func (w *walk) bucket(head []byte) error {
	plain := func(key, _ []byte, bucket bool) error {
		if bucket {
			return fmt.Errorf("%w: a bucket is in a bucket", errDamaged)
		}
		return nil
	}
	if root := order.Uint64(head); root != 0 {
		return w.tree(root, plain)
	}
	p := head[bucketHead:]
	if len(p) < pageHead || order.Uint16(p[8:]) != kindLeaf {
		return fmt.Errorf("%w: a bucket without a page", errDamaged)
	}
	return inOrder(plain)(p)
}

// read returns a page with its overflow, of one of the kinds.
func (w *walk) read(id uint64, kinds uint16) ([]byte, error) {
	head := make([]byte, pageHead)
	if id < 2 || id >= w.high {
		return nil, fmt.Errorf("%w: page %d of %d", errDamaged, id, w.high)
	}
	if _, err := w.f.ReadAt(head, int64(id)*w.page); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	n := uint64(order.Uint32(head[12:])) + 1
	if kind := order.Uint16(head[8:]); order.Uint64(head) != id || kind&kinds == 0 || kind&(kind-1) != 0 || n > w.high-id {
		return nil, fmt.Errorf("%w: page %d is none of the kind", errDamaged, id)
	}
	for i := range n {
		if w.seen[id+i] {
			return nil, fmt.Errorf("%w: page %d is used twice", errDamaged, id+i)
		}
		w.seen[id+i] = true
	}
	p := make([]byte, int64(n)*w.page)
	if _, err := w.f.ReadAt(p, int64(id)*w.page); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return p, nil
}

// A leafFunc is given what a tree holds, in order.
type leafFunc func(key, value []byte, bucket bool) error

func (w *walk) tree(root uint64, fn leafFunc) error { return w.node(root, nil, inOrder(fn), 0) }

// node walks what is below a page. It begins with the key that refers to it, by
// which bbolt finds the reference again; nil for a root.
func (w *walk) node(id uint64, begins []byte, leaf func(p []byte) error, depth int) error {
	p, err := w.read(id, kindBranch|kindLeaf)
	if err != nil {
		return err
	}
	n := int(order.Uint16(p[10:]))
	isLeaf := order.Uint16(p[8:]) == kindLeaf
	if begins != nil && !bytes.Equal(firstKey(p, n, isLeaf), begins) {
		return fmt.Errorf("%w: page %d begins with another key", errDamaged, id)
	}
	if isLeaf {
		return leaf(p)
	}
	if n == 0 || depth == maxDepth || pageHead+n*elemSize > len(p) {
		return fmt.Errorf("%w: page %d refers to nothing", errDamaged, id)
	}
	var last []byte
	for i := range n {
		e := p[pageHead+i*elemSize:]
		key, ok := cut(e, uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])))
		if !ok || len(key) == 0 || i > 0 && bytes.Compare(key, last) <= 0 {
			return fmt.Errorf("%w: page %d is out of order", errDamaged, id)
		}
		last = key
		if err := w.node(order.Uint64(e[8:]), key, leaf, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// firstKey is nil if there is none.
func firstKey(p []byte, n int, leaf bool) []byte {
	e := p[pageHead:]
	if n == 0 || len(e) < elemSize {
		return nil
	}
	at := e
	if leaf {
		at = e[4:]
	}
	key, _ := cut(e, uint64(order.Uint32(at)), uint64(order.Uint32(at[4:])))
	return key
}

// inOrder returns what looks at the leaves of one tree, from the left to the right.
func inOrder(fn leafFunc) func(p []byte) error {
	var last []byte
	first := true
	return func(p []byte) error {
		n := int(order.Uint16(p[10:]))
		if pageHead+n*elemSize > len(p) {
			return fmt.Errorf("%w: a page with %d values", errDamaged, n)
		}
		for i := range n {
			e := p[pageHead+i*elemSize:]
			at, keyLen := uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:]))
			key, ok := cut(e, at, keyLen)
			value, whole := cut(e, at+keyLen, uint64(order.Uint32(e[12:])))
			if !ok || !whole || !first && bytes.Compare(key, last) <= 0 {
				return fmt.Errorf("%w: a value is out of order, or not there", errDamaged)
			}
			if err := fn(key, value, order.Uint32(e)&1 != 0); err != nil {
				return err
			}
			last, first = key, false
		}
		return nil
	}
}

// cut returns n bytes at a distance.
func cut(p []byte, at, n uint64) ([]byte, bool) {
	if at+n > uint64(len(p)) {
		return nil, false
	}
	return p[at : at+n], true
}

// free looks at the list of free pages: none of them is in use.
func (w *walk) free(id uint64) error {
	p, err := w.read(id, kindFreelist)
	if err != nil {
		return err
	}
	n, at := uint64(order.Uint16(p[10:])), uint64(pageHead)
	if n == 0xffff {
		n, at = order.Uint64(p[at:]), at+8
	}
	if n > (uint64(len(p))-at)/8 {
		return fmt.Errorf("%w: %d free pages", errDamaged, n)
	}
	for i := range n {
		id := order.Uint64(p[at+8*i:])
		if id < 2 || id >= w.high || w.seen[id] {
			return fmt.Errorf("%w: page %d is free and in use", errDamaged, id)
		}
		w.seen[id] = true
	}
	return nil
}
