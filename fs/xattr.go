package fs

import (
	"context"
	"slices"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Attribute names with a meaning of their own.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	capability = "security.capability"
)

// attrsKept is the most bytes of values that a node keeps in memory.
const attrsKept = 4096

// SetMode says whether an attribute may, must or must not exist before.
type SetMode uint32

// The flags of setxattr(2).
const (
	SetCreate  SetMode = 1
	SetReplace SetMode = 2
)

// checkAttrName refuses names of no namespace.
func checkAttrName(name string) error {
	if len(name) > ondisk.XattrNameMax {
		return errRange
	}
	for _, prefix := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, prefix) {
			if len(name) == len(prefix) {
				return errInvalid
			}
			return nil
		}
	}
	if name == aclAccess || name == aclDefault || isProperty(name) {
		return nil
	}
	return errNotHere
}

// isTrusted reports whether an attribute is the administrator's alone.
func isTrusted(name string) bool { return strings.HasPrefix(name, "trusted.") }

// loadAttrs returns the attributes of a node that the caller has locked, at
// least shared.
func (f *FS) loadAttrs(ctx context.Context, n *node) (*attrSet, error) {
	if set := n.attrs.Load(); set != nil {
		return set, nil
	}
	rec, ok, err := f.store.Inode(ctx, ondisk.AttrBit|n.inum)
	if err != nil {
		return nil, err
	}
	set := &attrSet{exists: ok}
	if ok {
		if rec.Meta.Size > ondisk.XattrTotalMax {
			return nil, ondisk.ErrCorrupt
		}
		content := make([]byte, rec.Meta.Size)
		if _, err := f.readLocked(ctx, rec, 0, content); err != nil {
			return nil, err
		}
		if set.list, err = ondisk.DecodeXattrs(content); err != nil {
			return nil, err
		}
	}
	n.keepAttrs(set)
	return set, nil
}

// keepAttrs remembers set if it is small.
func (n *node) keepAttrs(set *attrSet) {
	size := 0
	for _, a := range set.list {
		size += len(a.Value)
	}
	if size > attrsKept {
		set = nil
	}
	n.attrs.Store(set)
}

func (s *attrSet) get(name string) ([]byte, bool) {
	i, ok := s.find(name)
	if !ok {
		return nil, false
	}
	return s.list[i].Value, true
}

func (s *attrSet) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.list, name, func(a ondisk.Xattr, name string) int {
		return strings.Compare(a.Name, name)
	})
}

// GetXattr returns the value of an attribute, which must not be changed.
func (f *FS) GetXattr(ctx context.Context, inum uint64, name string) ([]byte, error) {
	if err := checkAttrName(name); err != nil {
		return nil, err
	}
	n, rec, err := f.rlock(ctx, inum)
	if err != nil {
		return nil, err
	}
	defer f.runlock(n)
	if isProperty(name) {
		return property(&rec.Meta, name)
	}
	set, err := f.loadAttrs(ctx, n)
	if err != nil {
		return nil, err
	}
	value, ok := set.get(name)
	if !ok {
		return nil, errNoAttr
	}
	if name == aclAccess {
		// Somebody who does not know the ACL may have changed the mode.
		return aclWithMode(value, rec.Meta.Mode)
	}
	return value, nil
}

// ListXattr returns the names of the attributes.
func (f *FS) ListXattr(ctx context.Context, inum uint64) ([]string, error) {
	n, _, err := f.rlock(ctx, inum)
	if err != nil {
		return nil, err
	}
	defer f.runlock(n)
	set, err := f.loadAttrs(ctx, n)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(set.list))
	for _, a := range set.list {
		if a.Name != accountsAttr {
			names = append(names, a.Name)
		}
	}
	return names, nil
}

// SetXattr sets an attribute. Setting an access ACL changes the mode with it;
// killGroup then takes setgid.
func (f *FS) SetXattr(ctx context.Context, inum uint64, name string, value []byte, mode SetMode, killGroup bool) error {
	if err := checkAttrName(name); err != nil {
		return err
	}
	if len(value) > ondisk.XattrValueMax {
		return errRange
	}
	if isProperty(name) {
		return f.setProperty(ctx, inum, name, string(value))
	}
	n, rec, err := f.lock(ctx, inum)
	if err != nil {
		return err
	}
	defer f.unlock(n)
	if rec.Meta.UFlags&(flagsImmutable|flagsAppend) != 0 {
		return errPerm
	}
	set, err := f.loadAttrs(ctx, n)
	if err != nil {
		return err
	}
	if _, ok := set.find(name); ok && mode&SetCreate != 0 {
		return errExist
	} else if !ok && mode&SetReplace != 0 {
		return errNoAttr
	}
	newMode, value, err := aclToMode(name, value, rec.Meta)
	if err != nil {
		return err
	}
	if killGroup {
		newMode &^= modeSetgid
	}
	t, err := f.store.Begin(ctx, Cost{Leaves: 4, Bytes: 2*ondisk.LogicalBlock + int64(len(value))})
	if err != nil {
		return err
	}
	defer t.End()
	if value == nil {
		err = f.dropAttr(ctx, t, n, name)
	} else {
		err = f.putAttr(ctx, t, n, name, slices.Clone(value))
	}
	if err != nil {
		return err
	}
	f.update(t, n, func(m *ondisk.InodeMeta) {
		m.Mode = newMode
		m.SetCtime(f.clock())
	})
	return nil
}

// RemoveXattr removes an attribute.
func (f *FS) RemoveXattr(ctx context.Context, inum uint64, name string) error {
	if err := checkAttrName(name); err != nil {
		return err
	}
	if isProperty(name) {
		return errNotHere
	}
	n, rec, err := f.lock(ctx, inum)
	if err != nil {
		return err
	}
	defer f.unlock(n)
	if rec.Meta.UFlags&(flagsImmutable|flagsAppend) != 0 {
		return errPerm
	}
	set, err := f.loadAttrs(ctx, n)
	if err != nil {
		return err
	}
	if _, ok := set.find(name); !ok {
		return errNoAttr
	}
	t, err := f.store.BeginFree(ctx)
	if err != nil {
		return err
	}
	defer t.End()
	if err := f.dropAttr(ctx, t, n, name); err != nil {
		return err
	}
	f.update(t, n, func(m *ondisk.InodeMeta) { m.SetCtime(f.clock()) })
	return nil
}

// putAttr sets an attribute of a locked node. value is kept.
func (f *FS) putAttr(ctx context.Context, t Txn, n *node, name string, value []byte) error {
	set, err := f.loadAttrs(ctx, n)
	if err != nil {
		return err
	}
	list := slices.Clone(set.list)
	i, ok := set.find(name)
	if ok {
		list[i].Value = value
	} else {
		list = slices.Insert(list, i, ondisk.Xattr{Name: name, Value: value})
	}
	return f.replaceAttrs(ctx, t, n, set, list)
}

// dropAttr removes an attribute of a locked node, if it has it.
func (f *FS) dropAttr(ctx context.Context, t Txn, n *node, name string) error {
	set, err := f.loadAttrs(ctx, n)
	if err != nil {
		return err
	}
	i, ok := set.find(name)
	if !ok {
		return nil
	}
	return f.replaceAttrs(ctx, t, n, set, slices.Delete(slices.Clone(set.list), i, i+1))
}

func (f *FS) replaceAttrs(ctx context.Context, t Txn, n *node, old *attrSet, list []ondisk.Xattr) error {
	if len(list) == 0 {
		if old.exists {
			t.DeleteInode(ondisk.AttrBit | n.inum)
		}
		n.keepAttrs(&attrSet{})
		return nil
	}
	var orec *Record
	if old.exists {
		r, ok, err := f.store.Inode(ctx, ondisk.AttrBit|n.inum)
		if err != nil {
			return err
		}
		if ok {
			orec = r
		}
	}
	if err := storeAttrs(ctx, t, &n.rec.Load().Meta, orec, list); err != nil {
		return err
	}
	n.keepAttrs(&attrSet{list: list, exists: true})
	return nil
}

// storeAttrs writes the attribute inode of owner anew; old is the one there
// is, nil for none.
func storeAttrs(ctx context.Context, t Txn, owner *ondisk.InodeMeta, old *Record, list []ondisk.Xattr) error {
	content, err := ondisk.EncodeXattrs(list)
	if err != nil {
		return errNoSpace // more than one inode may have
	}
	size := uint64(len(content))
	r := &Record{}
	if old != nil {
		r.Meta = old.Meta
	} else {
		r.Meta = ondisk.NewInodeMeta(ondisk.AttrBit|owner.Inum, ondisk.ObjFile)
		r.Meta.Mode, r.Meta.Nlinks, r.Meta.Iparent = 0o600, 1, owner.Inum
		r.Meta.CompAlgo, r.Meta.CheckAlgo = owner.CompAlgo, owner.CheckAlgo
		r.Meta.OpFlags |= ondisk.OpDirectData
	}
	if r.Meta.DirectData() && size <= inlineMax {
		r.Inline = content
	} else {
		if err := t.WriteData(ctx, r.Meta.Inum, 0, content); err != nil {
			return err
		}
		if size < r.Meta.Size {
			if err := t.TruncateData(ctx, r.Meta.Inum, r.Meta.Size, size); err != nil {
				return err
			}
		}
		r.Meta.OpFlags &^= ondisk.OpDirectData
	}
	r.Meta.Size = size
	t.PutInode(r)
	return nil
}

// hasCaps reports whether a locked file carries capabilities, which every
// change of content or owner takes away.
func (f *FS) hasCaps(ctx context.Context, n *node) (bool, error) {
	set, err := f.loadAttrs(ctx, n)
	if err != nil {
		return false, err
	}
	_, ok := set.find(capability)
	return ok, nil
}

// removeCaps takes the capabilities away. They have been read just before,
// so it can only fail where the change it belongs to has been made already:
// then it is logged, not undone.
func (f *FS) removeCaps(ctx context.Context, t Txn, n *node) {
	if err := f.dropAttr(ctx, t, n, capability); err != nil {
		f.log.Error("capabilities not removed from a changed file", "inode", n.inum, "error", err)
	}
}
