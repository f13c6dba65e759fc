package fs

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// POSIX ACLs in Linux's binary form: a version and entries of 8 bytes, sorted
// by tag and id, exactly one each of owner, group and other, and a mask if any
// user or group is named.
const (
	aclVersion   = 2
	aclHeader    = 4
	aclEntrySize = 8

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

type aclEntry struct {
	tag, perm uint16
	id        uint32 // of aclUser and aclGroup
}

func decodeACL(b []byte) ([]aclEntry, error) {
	if len(b) < aclHeader || (len(b)-aclHeader)%aclEntrySize != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, errInvalid
	}
	var acl []aclEntry
	for b = b[aclHeader:]; len(b) > 0; b = b[aclEntrySize:] {
		acl = append(acl, aclEntry{
			tag:  binary.LittleEndian.Uint16(b),
			perm: binary.LittleEndian.Uint16(b[2:]) & 7,
			id:   binary.LittleEndian.Uint32(b[4:]),
		})
	}
	for _, tag := range []uint16{aclUserObj, aclGroupObj, aclOther} {
		if !slices.ContainsFunc(acl, func(e aclEntry) bool { return e.tag == tag }) {
			return nil, errInvalid
		}
	}
	return acl, nil
}

func encodeACL(acl []aclEntry) []byte {
	b := make([]byte, aclHeader, aclHeader+len(acl)*aclEntrySize)
	binary.LittleEndian.PutUint32(b, aclVersion)
	for _, e := range acl {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// aclMode is what an ACL says in the nine bits of a mode; equivalent if these
// say all of it.
func aclMode(acl []aclEntry) (mode uint32, equivalent bool) {
	equivalent = true
	masked := false
	for _, e := range acl {
		switch e.tag {
		case aclUserObj:
			mode |= uint32(e.perm) << 6
		case aclGroupObj:
			if !masked {
				mode |= uint32(e.perm) << 3
			}
		case aclMask:
			mode = mode&^0o070 | uint32(e.perm)<<3
			masked, equivalent = true, false
		case aclOther:
			mode |= uint32(e.perm)
		default:
			equivalent = false
		}
	}
	return mode, equivalent
}

// setACLMode makes an ACL say what mode says; with and, it keeps only what
// both allow, and the mode left over is returned.
func setACLMode(acl []aclEntry, mode uint32, and bool) uint32 {
	group := uint16(aclGroupObj)
	if slices.ContainsFunc(acl, func(e aclEntry) bool { return e.tag == aclMask }) {
		group = aclMask
	}
	for i := range acl {
		e := &acl[i]
		shift := 0
		switch e.tag {
		case aclUserObj:
			shift = 6
		case group:
			shift = 3
		case aclOther:
		default:
			continue
		}
		perm := uint16(mode >> shift & 7)
		if and {
			perm &= e.perm
		}
		e.perm = perm
		mode = mode&^(7<<shift) | uint32(perm)<<shift
	}
	return mode
}

// aclWithMode returns an access ACL adapted to the mode's nine bits.
func aclWithMode(value []byte, mode uint32) ([]byte, error) {
	acl, err := decodeACL(value)
	if err != nil {
		return value, nil // not ours to judge: it was stored like this
	}
	setACLMode(acl, mode, false)
	return encodeACL(acl), nil
}

// aclToMode checks an ACL being set and returns the mode the file gets. The
// value is nil if the mode says it all, so that no attribute is needed. Other
// attributes pass unchanged.
func aclToMode(name string, value []byte, m ondisk.InodeMeta) (uint32, []byte, error) {
	switch name {
	case aclAccess:
		acl, err := decodeACL(value)
		if err != nil {
			return 0, nil, err
		}
		mode, equivalent := aclMode(acl)
		if equivalent {
			value = nil
		}
		return m.Mode&^0o777 | mode, value, nil
	case aclDefault:
		if m.Type != ondisk.ObjDir {
			return 0, nil, errAccess
		}
		if len(value) == aclHeader {
			return m.Mode, nil, nil // an empty ACL is none
		}
		if _, err := decodeACL(value); err != nil {
			return 0, nil, err
		}
	}
	if value == nil {
		value = []byte{}
	}
	return m.Mode, value, nil
}

// aclAfterChmod returns the access ACL a chmod leads to, nil if there is
// none or the mode stays.
func (f *FS) aclAfterChmod(ctx context.Context, n *node, c *Change) ([]byte, error) {
	if c.Mode == nil {
		return nil, nil
	}
	set, err := f.loadAttrs(ctx, n)
	if err != nil {
		return nil, err
	}
	value, ok := set.get(aclAccess)
	if !ok {
		return nil, nil
	}
	return aclWithMode(value, *c.Mode)
}

// inheritACL returns mode and ACLs of what is made in directory d: its
// default ACL, or the umask where it has none.
func (f *FS) inheritACL(ctx context.Context, d *node, what NewNode, mode uint32) (uint32, []ondisk.Xattr, error) {
	if what.Type == ondisk.ObjSymlink {
		return 0o777, nil, nil
	}
	set, err := f.loadAttrs(ctx, d)
	if err != nil {
		return 0, nil, err
	}
	value, ok := set.get(aclDefault)
	if !ok {
		return mode &^ what.Umask, nil, nil
	}
	acl, err := decodeACL(value)
	if err != nil {
		return 0, nil, err
	}
	mode = setACLMode(acl, mode, true)
	var attrs []ondisk.Xattr
	if _, equivalent := aclMode(acl); !equivalent {
		attrs = append(attrs, ondisk.Xattr{Name: aclAccess, Value: encodeACL(acl)})
	}
	if what.Type == ondisk.ObjDir {
		attrs = append(attrs, ondisk.Xattr{Name: aclDefault, Value: value})
	}
	return mode, attrs, nil
}
