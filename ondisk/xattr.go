package ondisk

import (
	"encoding/binary"
	"strings"
)

// Limits of extended attributes.
const (
	XattrNameMax  = 255
	XattrValueMax = 65536
	XattrTotalMax = 1 << 20 // encoded, of one inode
)

const (
	xattrMagic  = "ANVXATR1"
	xattrHeader = 16
	xattrRecord = 8 // before name and value
)

// An Xattr is one extended attribute.
type Xattr struct {
	Name  string // with its namespace, as in "user.comment"
	Value []byte
}

func xattrSize(name, value int) int { return (xattrRecord + name + value + 7) &^ 7 }

// EncodeXattrs returns the content of an attribute inode. attrs must be
// sorted by name. Errors say which attribute breaks which limit.
func EncodeXattrs(attrs []Xattr) ([]byte, error) {
	total := xattrHeader
	for i := range attrs {
		if err := checkXattr(attrs[:i+1]); err != nil {
			return nil, err
		}
		total += xattrSize(len(attrs[i].Name), len(attrs[i].Value))
	}
	if total > XattrTotalMax {
		return nil, corruptf("attributes of %d bytes in all, at most %d are possible", total, XattrTotalMax)
	}
	b := make([]byte, total)
	copy(b, xattrMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(attrs)))
	rec := b[xattrHeader:]
	for _, a := range attrs {
		binary.LittleEndian.PutUint16(rec, uint16(len(a.Name)))
		binary.LittleEndian.PutUint32(rec[4:], uint32(len(a.Value)))
		n := xattrRecord + copy(rec[xattrRecord:], a.Name)
		copy(rec[n:], a.Value)
		rec = rec[xattrSize(len(a.Name), len(a.Value)):]
	}
	return b, nil
}

// DecodeXattrs reads the whole content of an attribute inode. The values
// share b. Errors are ErrCorrupt.
func DecodeXattrs(b []byte) ([]Xattr, error) {
	if len(b) < xattrHeader || len(b) > XattrTotalMax || string(b[:8]) != xattrMagic {
		return nil, corruptf("attributes of %d bytes without %s in front", len(b), xattrMagic)
	}
	count := int(binary.LittleEndian.Uint32(b[8:]))
	if count > len(b)/16 || !allZero(b[12:xattrHeader]) {
		return nil, corruptf("%d attributes in %d bytes", count, len(b))
	}
	attrs := make([]Xattr, 0, count)
	rest := b[xattrHeader:]
	for i := range count {
		a, size, err := decodeXattr(rest)
		if err != nil {
			return nil, corruptf("attribute %d: %v", i, err)
		}
		attrs = append(attrs, a)
		if err := checkXattr(attrs); err != nil {
			return nil, err
		}
		rest = rest[size:]
	}
	if len(rest) != 0 {
		return nil, corruptf("%d bytes behind the last attribute", len(rest))
	}
	return attrs, nil
}

// decodeXattr reads the record at the front of b and returns its size.
func decodeXattr(b []byte) (a Xattr, size int, err error) {
	if len(b) < xattrRecord {
		return a, 0, corruptf("record cut off")
	}
	nameLen := int(binary.LittleEndian.Uint16(b))
	valueLen := int64(binary.LittleEndian.Uint32(b[4:]))
	if valueLen > XattrValueMax {
		return a, 0, corruptf("value of %d bytes", valueLen)
	}
	end := xattrRecord + nameLen + int(valueLen)
	size = xattrSize(nameLen, int(valueLen))
	if size > len(b) || !allZero(b[2:4]) || !allZero(b[end:size]) {
		return a, 0, corruptf("record cut off, or its padding is not zero")
	}
	a.Name = string(b[xattrRecord : xattrRecord+nameLen])
	a.Value = b[xattrRecord+nameLen : end : end]
	return a, size, nil
}

// checkXattr checks the last of attrs and its place behind the others.
func checkXattr(attrs []Xattr) error {
	a := &attrs[len(attrs)-1]
	switch {
	case len(a.Name) == 0 || len(a.Name) > XattrNameMax || strings.IndexByte(a.Name, 0) >= 0:
		return corruptf("attribute name %q", a.Name)
	case len(a.Value) > XattrValueMax:
		return corruptf("attribute %s: value of %d bytes", a.Name, len(a.Value))
	case len(attrs) > 1 && attrs[len(attrs)-2].Name >= a.Name:
		return corruptf("attribute %s: not above %s", a.Name, attrs[len(attrs)-2].Name)
	}
	return nil
}
