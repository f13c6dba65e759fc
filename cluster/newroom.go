package cluster

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// canHold refuses devices for a new member that surely cannot take what the members
// in sync have: a copy would be begun again and again, and each would end for want
// of room. What is doubtful is tried.
func (e *engine) canHold(ctx context.Context, devs []ondisk.Device) error {
	room, err := chain.Room(devs)
	if err != nil {
		return err
	}
	var full []nodeVolume
	for _, n := range e.volumes() {
		if !n.InSync {
			continue
		}
		if leastCopy(n.Vol.Space()) <= room {
			return nil // nobody has to be read for that
		}
		full = append(full, n)
	}
	for i := range full {
		n := &full[i]
		if !n.alone(ctx) {
			continue
		}
		return fmt.Errorf("it has room for %s, and %s are in use on %s: nothing was changed: give a larger device, or delete files or snapshots first",
			ondisk.Human(room), ondisk.Human(inUse(n.Vol.Space())), n.Name)
	}
	return nil
}

// inUse is what the freemap calls used, and what comes free by itself left out.
func inUse(s chain.Space) uint64 { return s.Total - min(s.Total, s.Free+s.Pending+s.Lost) }

// leastCopy is less than a copy of all that takes: its tables are packed closer than
// those that grew, and what nothing uses any more is known only about.
func leastCopy(s chain.Space) uint64 { return inUse(s) - inUse(s)/8 }

// alone reports whether a volume surely holds nothing but the PFS and the snapshots
// that are copied with it.
func (n *nodeVolume) alone(ctx context.Context) bool {
	list, infos, err := n.look(ctx)
	if err != nil {
		return false
	}
	for i := range infos {
		p := &infos[i]
		if p.Label != n.Label && !list.Has(p.Label, p.Clid) && (p.DataBytes > 0 || p.Inodes > 1) {
			return false
		}
	}
	return true
}
