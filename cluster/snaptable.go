package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A SnapshotTable says which snapshots a PFS has, who holds them, and what
// is made and freed by itself. It is the content of inode 3, so part of the
// state: the same on every node at one T, and covered by its history hash.
type SnapshotTable struct {
	Policy  SnapshotPolicy
	Entries []SnapshotEntry // oldest first
}

// A SnapshotEntry is one snapshot. Its Tid is not here: a txg may be sent
// again under another.
type SnapshotEntry struct {
	Name    string
	Clid    ondisk.UUID // of the PFS on media
	After   ondisk.Tid  // committed when it was asked for: in its history
	Created time.Time
	Auto    bool // made by the policy, which may free it
	Holds   []Hold
}

// A Hold keeps a snapshot from being deleted.
type Hold struct {
	Owner string
	Since time.Time
	Until time.Time // zero = for good
}

// ActiveAt reports whether the hold counts at that time.
func (h *Hold) ActiveAt(now time.Time) bool { return h.Until.IsZero() || now.Before(h.Until) }

// A SnapshotPolicy says how many snapshots of each kind are kept. All zero:
// none are made.
type SnapshotPolicy struct {
	Hourly, Daily, Weekly, Monthly uint16
	// FreeSpace lets the oldest of them go before a writer is told that the
	// pool is full.
	FreeSpace bool
}

// Off reports whether nothing is made by itself.
func (p SnapshotPolicy) Off() bool { return p.Hourly|p.Daily|p.Weekly|p.Monthly == 0 }

// Bounds of the table.
const (
	SnapshotsMax  = 4096
	HoldsMax      = 16      // of one snapshot
	OwnerMax      = 64      // bytes
	snapTableMax  = 1 << 20 // bytes
	snapMagic     = "ANVSNAP1"
	snapHead      = 32
	snapEntryHead = 40
	snapHoldHead  = 18
	snapAuto      = 1 // flag of an entry
	snapFree      = 1 // flag of the policy
)

// find returns the index of the snapshot of that name, -1 if there is none.
func (t *SnapshotTable) find(name string) int {
	for i := range t.Entries {
		if t.Entries[i].Name == name {
			return i
		}
	}
	return -1
}

// EncodeSnapshotTable returns the content of the table's inode, little-endian:
// magic, four counts of the policy, its flags, the number of entries; then
// the entries. Errors: the table is too long, or has what Decode refuses.
func EncodeSnapshotTable(t *SnapshotTable) ([]byte, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	b := append(make([]byte, 0, snapHead+128*len(t.Entries)), snapMagic...)
	p := &t.Policy
	for _, n := range []uint16{p.Hourly, p.Daily, p.Weekly, p.Monthly} {
		b = le.AppendUint16(b, n)
	}
	b = le.AppendUint32(b, flagIf(p.FreeSpace, snapFree))
	b = le.AppendUint32(b, uint32(len(t.Entries)))
	b = append(b, make([]byte, snapHead-len(b))...)
	for i := range t.Entries {
		e := &t.Entries[i]
		b = append(b, e.Clid[:]...)
		b = le.AppendUint64(b, uint64(e.After))
		b = le.AppendUint64(b, uint64(unixNano(e.Created)))
		b = le.AppendUint32(b, flagIf(e.Auto, snapAuto))
		b = le.AppendUint16(b, uint16(len(e.Name)))
		b = le.AppendUint16(b, uint16(len(e.Holds)))
		b = append(b, e.Name...)
		for _, h := range e.Holds {
			b = le.AppendUint64(b, uint64(unixNano(h.Since)))
			b = le.AppendUint64(b, uint64(unixNano(h.Until)))
			b = le.AppendUint16(b, uint16(len(h.Owner)))
			b = append(b, h.Owner...)
		}
	}
	if len(b) > snapTableMax {
		return nil, errors.New("the list of snapshots is full: delete some")
	}
	return b, nil
}

func flagIf(on bool, flag uint32) uint32 {
	if on {
		return flag
	}
	return 0
}

// unixNano is 0 for the zero time, as fromNano is the zero time for 0.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNano(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns)).UTC()
}

func snapErrorf(format string, args ...any) error {
	return fmt.Errorf("list of snapshots: "+format+": %w", append(args, ondisk.ErrCorrupt)...)
}

// A snapReader takes fields off the front; short is set at the end of it.
type snapReader struct {
	b     []byte
	short bool
}

func (r *snapReader) take(n int) []byte {
	if n > len(r.b) {
		r.short = true
		return make([]byte, n)
	}
	part := r.b[:n]
	r.b = r.b[n:]
	return part
}

func (r *snapReader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *snapReader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *snapReader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// DecodeSnapshotTable reads what EncodeSnapshotTable writes. Errors are
// ondisk.ErrCorrupt.
func DecodeSnapshotTable(b []byte) (*SnapshotTable, error) {
	if len(b) < snapHead || len(b) > snapTableMax || string(b[:8]) != snapMagic {
		return nil, snapErrorf("%d bytes without its mark", len(b))
	}
	r := &snapReader{b: b[8:]}
	t := &SnapshotTable{Policy: SnapshotPolicy{Hourly: r.u16(), Daily: r.u16(), Weekly: r.u16(), Monthly: r.u16()}}
	flags, n, rest := r.u32(), r.u32(), r.u64()
	t.Policy.FreeSpace = flags&snapFree != 0
	if flags&^snapFree != 0 || rest != 0 || n > SnapshotsMax {
		return nil, snapErrorf("flags %#x, %d entries", flags, n)
	}
	for range n {
		e := SnapshotEntry{Clid: ondisk.UUID(r.take(16)), After: ondisk.Tid(r.u64()), Created: fromNano(r.u64())}
		flags := r.u32()
		e.Auto = flags&snapAuto != 0
		name, holds := int(r.u16()), r.u16()
		e.Name = string(r.take(name))
		for range min(holds, HoldsMax+1) {
			h := Hold{Since: fromNano(r.u64()), Until: fromNano(r.u64())}
			h.Owner = string(r.take(int(r.u16())))
			e.Holds = append(e.Holds, h)
		}
		if r.short || flags&^snapAuto != 0 {
			return nil, snapErrorf("an entry is cut off or unknown, flags %#x", flags)
		}
		t.Entries = append(t.Entries, e)
	}
	if len(r.b) != 0 {
		return nil, snapErrorf("%d bytes too many", len(r.b))
	}
	if err := t.validate(); err != nil {
		return nil, snapErrorf("%v", err)
	}
	return t, nil
}

// validate checks what Encode and Decode both refuse.
func (t *SnapshotTable) validate() error {
	if len(t.Entries) > SnapshotsMax {
		return fmt.Errorf("%d snapshots are more than the %d there is room for: delete some", len(t.Entries), SnapshotsMax)
	}
	names, clids := make(map[string]bool), make(map[ondisk.UUID]bool)
	for i := range t.Entries {
		e := &t.Entries[i]
		if err := checkSnapshotName(e.Name); err != nil {
			return err
		}
		if names[e.Name] || clids[e.Clid] || e.Clid.IsZero() {
			return fmt.Errorf("snapshot %q with identity %v twice, or without one", e.Name, e.Clid)
		}
		names[e.Name], clids[e.Clid] = true, true
		if len(e.Holds) > HoldsMax {
			return fmt.Errorf("snapshot %q has %d holds, more than %d: release some", e.Name, len(e.Holds), HoldsMax)
		}
		for _, h := range e.Holds {
			if h.Owner == "" || len(h.Owner) > OwnerMax {
				return fmt.Errorf("the owner of a hold is named by 1 to %d bytes, not %d", OwnerMax, len(h.Owner))
			}
		}
	}
	return nil
}

// checkSnapshotName refuses names that cannot be a directory below
// .anvilfs/snapshots and a label behind the @ of a source.
func checkSnapshotName(name string) error {
	switch {
	case name == "" || len(name) > ondisk.NameMax:
		return fmt.Errorf("a snapshot's name has 1 to %d bytes, not %d", ondisk.NameMax, len(name))
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("the name %q begins with %q: begin it with a letter or digit", name, name[0])
	}
	bad := strings.IndexFunc(name, func(r rune) bool { return r < ' ' || strings.ContainsRune("/@,:\\\x7f\uFFFD", r) })
	if bad >= 0 {
		return fmt.Errorf("the name %q has a character that labels of sources cannot have: leave out control characters and / @ , : \\", name)
	}
	return nil
}
