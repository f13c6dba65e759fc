package ondisk

import (
	"errors"
	"fmt"
)

var (
	// ErrCorrupt: the bytes read cannot be the bytes written. Another node
	// may have a good copy.
	ErrCorrupt = errors.New("corrupt media")

	// ErrNotHammer2: no volume header here. In an empty slot that is normal.
	ErrNotHammer2 = errors.New("not a HAMMER2 volume header")

	// ErrByteOrder: the volume was written by a machine of other byte order.
	ErrByteOrder = errors.New("HAMMER2 volume of a big-endian machine: not supported")

	// ErrVersion: the volume is newer than this program.
	ErrVersion = errors.New("unsupported HAMMER2 volume version")
)

// A CheckError is an ErrCorrupt that knows which block failed.
type CheckError struct {
	Ref       Blockref // the reference that was followed
	Want, Got string   // check code in Ref, check code of the bytes read; hex
}

func (e *CheckError) Error() string {
	return fmt.Sprintf("%v block at %#x, %d bytes: %v check code %s, want %s",
		e.Ref.Type, e.Ref.Off(), e.Ref.Size(), e.Ref.CheckMethod(), e.Got, e.Want)
}

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CheckError) Unwrap() error { return ErrCorrupt }

// A damage is an ErrCorrupt with a sentence: which structure breaks which rule.
type damage string

func (d damage) Error() string { return string(d) }
func (d damage) Unwrap() error { return ErrCorrupt }

func corruptf(format string, args ...any) error {
	return damage(fmt.Sprintf(format, args...))
}

// mustBeValid panics on an error of our own making: nothing that Validate
// rejects may reach the media.
func mustBeValid(what string, err error) {
	if err != nil {
		panic(fmt.Sprintf("ondisk: encoding an invalid %s: %v", what, err))
	}
}
