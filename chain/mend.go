package chain

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/ondisk"
)

// Mend writes the right bytes over a data block that cannot be read, in place.
// It writes nothing unless block has ref's check code and the device does not,
// and reports success only after the device gave the block back right. The caller holds a view that
// reaches ref, so that its space belongs to nothing else.
//
// Nothing but a damaged block is ever overwritten: a write that a power cut
// tears leaves what was there before, a block that cannot be read.
func (v *Volume) Mend(ctx context.Context, ref *ondisk.Blockref, block []byte) (written bool, err error) {
	if v.opts.ReadOnly {
		return false, fmt.Errorf("%s: %w", v.Name(), ErrReadOnly)
	}
	if ref.Type != ondisk.TypeData || len(block) != ref.Size() {
		return false, fmt.Errorf("%s: %v is not a data block of %d bytes", v.Name(), ref, len(block))
	}
	if err := ref.VerifyCheck(block); err != nil {
		return false, fmt.Errorf("%s: the copy to mend %v with: %w", v.Name(), ref, err)
	}
	if err := v.takeTurn(ctx); err != nil {
		return false, err
	}
	defer v.passTurn()
	if _, err := v.readRaw(ctx, ref); err == nil {
		return false, nil // it was read right this time
	}
	if uint64(len(block)) < v.geo.Load().grain {
		return false, fmt.Errorf("%s: %v shares a page with other blocks", v.Name(), ref)
	}
	aligned := ondisk.AlignedBuffer(len(block))
	copy(aligned, block)
	if err := v.write(aligned, ref.Off()); err != nil {
		return false, err
	}
	if err := v.flush(); err != nil {
		v.fail(err)
		return false, err
	}
	if _, err := v.readRaw(ctx, ref); err != nil {
		return true, fmt.Errorf("written and still bad: %w", err)
	}
	return true, nil
}
