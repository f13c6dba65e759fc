package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A nodeVolume is a member's open volume, for what lies beside the PFS. Its
// methods wait for a device that hangs no longer than it may take.
type nodeVolume struct {
	Node  int // index of the member
	Name  string
	Label string // of the PFS
	Fsid  ondisk.UUID
	Vol   *chain.Volume

	InSync bool
	Snap   bool      // the PFS is a snapshot itself
	Since  time.Time // in this state
	Limit  time.Duration
}

var errSilent = errors.New("does not answer")

// within runs fn, which may hang in a device, no longer than limit or ctx
// last. What it brings too late is dropped.
func within[T any](ctx context.Context, n *nodeVolume, fn func() (T, error), drop func(T)) (T, error) {
	type answer struct {
		t   T
		err error
	}
	got, gone := make(chan answer), make(chan struct{})
	defer close(gone)
	go func() {
		t, err := fn()
		select {
		case got <- answer{t, err}:
		case <-gone:
			if err == nil && drop != nil {
				drop(t)
			}
		}
	}()
	limit := time.NewTimer(n.Limit)
	defer limit.Stop()
	var none T
	select {
	case a := <-got:
		return a.t, a.err
	case <-limit.C:
		return none, fmt.Errorf("%s %w", n.Name, errSilent)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// pfss lists the PFSs of the volume. Roots that are damaged are left out.
func (n *nodeVolume) pfss(ctx context.Context) ([]chain.PFSInfo, error) {
	return within(ctx, n, func() ([]chain.PFSInfo, error) {
		infos, err := n.Vol.PFSs(ctx)
		if len(infos) > 0 {
			err = nil
		}
		return infos, err
	}, nil)
}

// view opens a PFS of the volume.
func (n *nodeVolume) view(ctx context.Context, label string) (*chain.View, error) {
	return within(ctx, n, func() (*chain.View, error) { return n.Vol.View(ctx, label) }, (*chain.View).Release)
}

// look returns the list as the member itself has it, and then what is there:
// in this order nothing that is listed is still to be made by a txg.
func (n *nodeVolume) look(ctx context.Context) (own *SnapshotTable, infos []chain.PFSInfo, err error) {
	own, err = within(ctx, n, func() (*SnapshotTable, error) {
		v, err := n.Vol.View(ctx, n.Label)
		if err != nil {
			return nil, err
		}
		defer v.Release()
		return ReadSnapshotTable(ctx, v)
	}, nil)
	if err != nil {
		return nil, nil, err
	}
	infos, err = n.pfss(ctx)
	return own, infos, err
}
