package ondisk

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// A UUID holds the 16 bytes as they are on media: the first three groups are
// little-endian, the rest is in text order.
type UUID [16]byte

// FSType marks every volume header of the format.
var FSType = mustUUID("5cbb9ad1-862d-11dc-a94d-01301bb8a9f5")

// textOrder maps a byte of the text form to its place on media.
var textOrder = [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}

// NewUUID returns a random (version 4) UUID.
func NewUUID() UUID {
	var text, u UUID
	rand.Read(text[:]) // never fails: the runtime aborts without a random source
	text[6] = text[6]&0x0f | 0x40
	text[8] = text[8]&0x3f | 0x80
	for i, m := range textOrder {
		u[m] = text[i]
	}
	return u
}

// ParseUUID reads the usual text form, 8-4-4-4-12 hex digits.
func ParseUUID(s string) (UUID, error) {
	bad := fmt.Errorf("uuid %q: want the form 5cbb9ad1-862d-11dc-a94d-01301bb8a9f5", s)
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return UUID{}, bad
	}
	text, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil {
		return UUID{}, bad
	}
	var u UUID
	for i, m := range textOrder {
		u[m] = text[i]
	}
	return u, nil
}

// String returns the usual text form in lower case.
func (u UUID) String() string {
	var text UUID
	for i, m := range textOrder {
		text[i] = u[m]
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", text[:4], text[4:6], text[6:8], text[8:10], text[10:])
}

// IsZero reports whether u is all zero, which means "not set".
func (u UUID) IsZero() bool { return u == UUID{} }

func mustUUID(s string) UUID {
	u, err := ParseUUID(s)
	if err != nil {
		panic(err)
	}
	return u
}
