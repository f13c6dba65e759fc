package chain

// Space counts the bytes of a volume.
type Space struct {
	Total    uint64 // that blocks can be in
	Free     uint64 // free now
	Whole    uint64 // of Free, in places that the largest block fits in; Free while that is not known
	Pending  uint64 // dropped, free after a few more commits
	Reserved uint64 // of Free, kept for deletions, resync and repair
	Lost     uint64 // about what a Bulkfree would find
}

// Avail is what ordinary transactions can still allocate.
func (s Space) Avail() uint64 { return s.Free - min(s.Free, s.Reserved) }

// Space returns the counts of the committed state.
func (v *Volume) Space() Space {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.space
	s.Pending, s.Lost = v.quar.bytes, v.lost
	return s
}
