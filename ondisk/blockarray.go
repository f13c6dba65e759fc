package ondisk

// DecodeBlockrefs reads an array of len(b)/128 elements and returns the
// non-EMPTY ones in their order. Errors are ErrCorrupt and name the element:
// one that is invalid or INVALID, or that does not lie wholly above the one
// before it.
func DecodeBlockrefs(b []byte) ([]Blockref, error) {
	if len(b)%BlockrefSize != 0 {
		return nil, corruptf("block array of %d bytes: not a multiple of %d", len(b), BlockrefSize)
	}
	used := 0
	for i := 0; i < len(b); i += BlockrefSize {
		if b[i+refType] != uint8(TypeEmpty) {
			used++
		}
	}
	if used == 0 && allZero(b) {
		return nil, nil
	}
	refs := make([]Blockref, 0, used)
	for i := 0; i < len(b); i += BlockrefSize {
		element := b[i : i+BlockrefSize]
		if element[refType] == uint8(TypeEmpty) {
			if !allZero(element) {
				return nil, corruptf("element %d: empty blockref is not zero", i/BlockrefSize)
			}
			continue
		}
		refs = append(refs, Blockref{})
		r := &refs[len(refs)-1]
		r.get(element)
		if err := checkElement(refs); err != nil {
			return nil, corruptf("element %d: %v", i/BlockrefSize, err)
		}
	}
	return refs, nil
}

// checkElement validates the last of refs and its place behind the others.
func checkElement(refs []Blockref) error {
	r := &refs[len(refs)-1]
	if r.Type == TypeInvalid || r.Type == TypeEmpty {
		return corruptf("%v blockref in use", r.Type)
	}
	if err := r.Validate(); err != nil {
		return err
	}
	if len(refs) > 1 {
		if prev := &refs[len(refs)-2]; r.Key <= prev.LastKey() {
			return corruptf("%v: not above %v", r, prev)
		}
	}
	return nil
}

// EncodeBlockrefs writes refs compactly to the front of b and zeroes the
// rest. It panics if they do not fit, are invalid, or are not sorted and apart.
func EncodeBlockrefs(b []byte, refs []Blockref) {
	for i := range refs {
		mustBeValid("block array", checkElement(refs[:i+1]))
		refs[i].put(b[i*BlockrefSize:])
	}
	clear(b[len(refs)*BlockrefSize:])
}
