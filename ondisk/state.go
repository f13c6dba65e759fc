package ondisk

import "encoding/binary"

// Where anvilfs keeps its own fields in the volume header: in bytes that the
// format leaves unused and other writers carry along.
const (
	ourMark   = 0x9000
	markTid   = 0x08
	markWho   = 0x10
	markSince = 0x20
	markLost  = 0x28
	markLog   = 0x30
	markSeed  = 0x38
	lenMark   = 0x40
	ourStates = 0x9040

	markMagic = "ANVILFS1"

	// StateLost in the flags of an entry: txgs that the node had acknowledged
	// were given up with its intent log. It counts nowhere until it is copied anew.
	StateLost = 1

	// MaxStates is the number of clustered PFSs one volume can hold.
	MaxStates = 16
	lenState  = 128
)

// Offsets in a state entry.
const (
	stFsid        = 0x00
	stEpoch       = 0x10
	stConfig      = 0x14
	stCandidate   = 0x18
	stTid         = 0x20
	stHash        = 0x28
	stFlags       = 0x38
	stPad         = 0x3C
	stGoal        = 0x40
	stShadow      = 0x48
	stIncarnation = 0x50
	stAcked       = 0x60
	stTime        = 0x68
	stAckedBy     = 0x70
	stRest        = 0x78
)

// A Mark says that anvilfs wrote the header: another writer keeps it but
// changes the header's tid. Zero means there is none.
type Mark struct {
	MirrorTid Tid  // of the header it was written in
	Writer    UUID // the node
	Since     Tid  // blocks with a mirror_tid of at least this are all ours
	// Lost is about how many bytes a Bulkfree would find after a crash with
	// this header: dropped, but marked as allocated.
	Lost uint64
	// Log is where in the aux area of this volume the intent log goes on from
	// this header, in bytes of the device. Its records carry LogSeed; 0 = none.
	Log, LogSeed uint64
}

// A StateEntry is a node's durable state in the cluster of one PFS.
type StateEntry struct {
	Fsid          UUID   // the PFS
	PromisedEpoch uint32 // no lower epoch is accepted
	ConfigVersion uint32
	Candidate     uint64 // to whom the epoch is promised
	T             Tid    // position
	H             [16]byte
	Flags         uint32
	Pad           uint32
	ResyncGoal    Tid
	ShadowKey     uint64
	Incarnation   UUID
	Acked         Tid
	Time          int64                   // when the node came to T, ns since 1970; 0 = not noted
	AckedBy       uint64                  // masters that had acknowledged the txg before T, by place in the charter
	Rest          [lenState - stRest]byte // unused, kept
}

// IsZero reports whether e is an unused entry.
func (e *StateEntry) IsZero() bool { return *e == StateEntry{} }

func (e *StateEntry) get(b []byte) {
	le := binary.LittleEndian
	e.Fsid = UUID(b[stFsid:])
	e.PromisedEpoch, e.ConfigVersion = le.Uint32(b[stEpoch:]), le.Uint32(b[stConfig:])
	e.Candidate = le.Uint64(b[stCandidate:])
	e.T = Tid(le.Uint64(b[stTid:]))
	e.H = [16]byte(b[stHash:])
	e.Flags, e.Pad = le.Uint32(b[stFlags:]), le.Uint32(b[stPad:])
	e.ResyncGoal = Tid(le.Uint64(b[stGoal:]))
	e.ShadowKey = le.Uint64(b[stShadow:])
	e.Incarnation = UUID(b[stIncarnation:])
	e.Acked = Tid(le.Uint64(b[stAcked:]))
	e.Time = int64(le.Uint64(b[stTime:]))
	e.AckedBy = le.Uint64(b[stAckedBy:])
	copy(e.Rest[:], b[stRest:lenState])
}

func (e *StateEntry) put(b []byte) {
	le := binary.LittleEndian
	copy(b[stFsid:], e.Fsid[:])
	le.PutUint32(b[stEpoch:], e.PromisedEpoch)
	le.PutUint32(b[stConfig:], e.ConfigVersion)
	le.PutUint64(b[stCandidate:], e.Candidate)
	le.PutUint64(b[stTid:], uint64(e.T))
	copy(b[stHash:], e.H[:])
	le.PutUint32(b[stFlags:], e.Flags)
	le.PutUint32(b[stPad:], e.Pad)
	le.PutUint64(b[stGoal:], uint64(e.ResyncGoal))
	le.PutUint64(b[stShadow:], e.ShadowKey)
	copy(b[stIncarnation:], e.Incarnation[:])
	le.PutUint64(b[stAcked:], uint64(e.Acked))
	le.PutUint64(b[stTime:], uint64(e.Time))
	le.PutUint64(b[stAckedBy:], e.AckedBy)
	copy(b[stRest:lenState], e.Rest[:])
}

// Encode writes the 128 bytes of e to b.
func (e *StateEntry) Encode(b []byte) { e.put(b) }

// DecodeStateEntry reads an entry from the first 128 bytes of b, which may be
// any.
func DecodeStateEntry(b []byte) (e StateEntry) {
	e.get(b)
	return e
}

// State returns the entry of a PFS, nil if there is none.
func (h *VolumeHeader) State(fsid UUID) *StateEntry {
	for i := range h.States {
		if h.States[i].Fsid == fsid {
			return &h.States[i]
		}
	}
	return nil
}

// getOurs reads mark and states. Without the magic the mark is nobody's.
func (h *VolumeHeader) getOurs(b []byte) {
	if m := b[ourMark:]; string(m[:len(markMagic)]) == markMagic {
		h.Mark.MirrorTid = Tid(binary.LittleEndian.Uint64(m[markTid:]))
		h.Mark.Writer = UUID(m[markWho:])
		h.Mark.Since = Tid(binary.LittleEndian.Uint64(m[markSince:]))
		h.Mark.Lost = binary.LittleEndian.Uint64(m[markLost:])
		h.Mark.Log = binary.LittleEndian.Uint64(m[markLog:])
		h.Mark.LogSeed = binary.LittleEndian.Uint64(m[markSeed:])
	}
	for i := range MaxStates {
		var e StateEntry
		if e.get(b[ourStates+i*lenState:]); !e.IsZero() {
			h.States = append(h.States, e)
		}
	}
}

// putOurs writes mark and states over the bytes that were there. A mark that
// is zero is left out, but what another program keeps in its place stays.
func (h *VolumeHeader) putOurs(b []byte) {
	m := b[ourMark : ourMark+lenMark]
	switch {
	case h.Mark != Mark{}:
		copy(m, markMagic)
		binary.LittleEndian.PutUint64(m[markTid:], uint64(h.Mark.MirrorTid))
		copy(m[markWho:markSince], h.Mark.Writer[:])
		binary.LittleEndian.PutUint64(m[markSince:], uint64(h.Mark.Since))
		binary.LittleEndian.PutUint64(m[markLost:], h.Mark.Lost)
		binary.LittleEndian.PutUint64(m[markLog:], h.Mark.Log)
		binary.LittleEndian.PutUint64(m[markSeed:], h.Mark.LogSeed)
	case string(m[:len(markMagic)]) == markMagic:
		clear(m)
	}
	states := b[ourStates : ourStates+MaxStates*lenState]
	clear(states)
	for i := range h.States {
		h.States[i].put(states[i*lenState:])
	}
}

func (h *VolumeHeader) validateOurs() error {
	if len(h.States) > MaxStates {
		return corruptf("volume header: %d cluster states, at most %d fit", len(h.States), MaxStates)
	}
	for i := range h.States {
		e := &h.States[i]
		if e.IsZero() {
			return corruptf("volume header: cluster state %d is zero", i)
		}
	}
	return nil
}
