package core

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A History is a hash over everything that led to a state: see NextH.
type History [16]byte

// String returns the first four bytes in hex: enough to tell two apart in a
// message.
func (h History) String() string { return hex.EncodeToString(h[:4]) }

// A Position is the last txg that is durable on a node. Two nodes have the
// same state if both fields are equal, never by T alone. Zero means that
// there is nothing yet.
type Position struct {
	T ondisk.Tid
	H History
}

// IsZero reports whether p is before the first txg.
func (p Position) IsZero() bool { return p == Position{} }

// String returns "3:17/0a1b2c3d".
func (p Position) String() string { return p.T.String() + "/" + p.H.String() }

// NextH is the history of the state that txg T makes of the state prev.
// manifest covers the keys, numbers, sizes, methods and check codes of the
// txg's changes.
func NextH(prev History, T ondisk.Tid, configVersion uint32, manifest [32]byte) History {
	var b [16 + 8 + 4 + 32]byte
	copy(b[:], prev[:])
	binary.LittleEndian.PutUint64(b[16:], uint64(T))
	binary.LittleEndian.PutUint32(b[24:], configVersion)
	copy(b[28:], manifest[:])
	sum := sha256.Sum256(b[:])
	return History(sum[:16])
}
