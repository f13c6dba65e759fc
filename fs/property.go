package fs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Properties of files and directories are attributes without a store of their
// own: fields of the inode. What is made in a directory inherits them; they say
// how data is stored from then on, and change nothing that is there.
const (
	propPrefix = "anvilfs."

	// PropCompression is none, autozero (blocks of zeros are holes), lz4, or
	// zlib:LEVEL with 1 to 9.
	PropCompression = propPrefix + "compression"
	// PropCheck is the check code of data: iscsi32, xxhash64, sha192, or none,
	// which finds no damage. Tables always have one.
	PropCheck = propPrefix + "check"
)

func isProperty(name string) bool { return strings.HasPrefix(name, propPrefix) }

// property returns the value of one, as text.
func property(m *ondisk.InodeMeta, name string) ([]byte, error) {
	switch name {
	case PropCompression:
		method, level := ondisk.CompMethod(m.CompAlgo&15), m.CompAlgo>>4
		if level > 0 {
			return fmt.Appendf(nil, "%v:%d", method, level), nil
		}
		return []byte(method.String()), nil
	case PropCheck:
		return []byte(ondisk.CheckMethod(m.CheckAlgo & 15).String()), nil
	}
	return nil, errNoAttr
}

// CheckProperty says whether a property can have that value.
func CheckProperty(name, value string) error {
	_, err := parseProperty(name, value)
	return err
}

// parseProperty returns the change of an inode that sets one.
func parseProperty(name, value string) (func(*ondisk.InodeMeta), error) {
	switch name {
	case PropCompression:
		word, digits, leveled := strings.Cut(value, ":")
		method, err := ondisk.ParseCompMethod(word)
		if err != nil {
			return nil, errInvalid
		}
		level := uint64(0)
		if leveled {
			if level, err = strconv.ParseUint(digits, 10, 8); err != nil || level < 1 || level > 9 || method != ondisk.CompZlib {
				return nil, errInvalid
			}
		}
		return func(m *ondisk.InodeMeta) { m.CompAlgo = uint8(method) | uint8(level)<<4 }, nil
	case PropCheck:
		method, err := ondisk.ParseCheckMethod(value)
		if err != nil || method == ondisk.CheckFreemap || method == ondisk.CheckDisabled {
			return nil, errInvalid
		}
		return func(m *ondisk.InodeMeta) { m.CheckAlgo = uint8(method) }, nil
	}
	return nil, errNotHere
}

// setProperty is SetXattr for one.
func (f *FS) setProperty(ctx context.Context, inum uint64, name, value string) error {
	change, err := parseProperty(name, value)
	if err != nil {
		return err
	}
	n, rec, err := f.lock(ctx, inum)
	if err != nil {
		return err
	}
	defer f.unlock(n)
	switch {
	case rec.Meta.UFlags&(flagsImmutable|flagsAppend) != 0:
		return errPerm
	case rec.Meta.Type != ondisk.ObjFile && rec.Meta.Type != ondisk.ObjDir:
		return errNotHere
	}
	t, err := f.store.Begin(ctx, Cost{Leaves: 1})
	if err != nil {
		return err
	}
	defer t.End()
	f.update(t, n, func(m *ondisk.InodeMeta) {
		change(m)
		m.SetCtime(f.clock())
	})
	return nil
}
