package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// ErrClustered: it is of a cluster already.
var ErrClustered = errors.New("it can have other copies already: mount it, and add them with anvilfs node add MNT DEVICE")

// Convert makes the PFS named label, a filesystem of one copy that is not
// mounted, a cluster of which it is the one master: others can join it then. Its
// content, snapshots and ids stay. With label "" it is the only one on the volume.
// It is one commit: a power cut leaves a filesystem of one copy, or a cluster.
//
// What the intent log holds is brought into the tree before, since its records
// are those of a single copy.
func Convert(ctx context.Context, v *chain.Volume, label string) (chain.PFSInfo, error) {
	info, err := findPFS(ctx, v, label)
	if err != nil {
		return info, err
	}
	if kind := otherKind(&info); kind != "" {
		return info, fmt.Errorf("%s@%s is no filesystem of one copy, but %s", v.Name(), info.Label, kind)
	}
	m := &Media{name: v.Name(), label: info.Label, vol: v, info: info}
	_, why, err := m.Load(ctx)
	switch _, clustered := v.State(info.Fsid); {
	case err != nil:
		return info, err
	case clustered:
		return info, fmt.Errorf("%s@%s: %w", v.Name(), info.Label, ErrClustered)
	case why != "":
		return info, fmt.Errorf("%s@%s: %s", v.Name(), info.Label, why)
	}
	clid := info.Clid
	if clid.IsZero() {
		clid = ondisk.NewUUID()
	}
	err = found(ctx, []*chain.Volume{v}, info.Label, []ondisk.PFSType{ondisk.PFSMaster}, clid, ondisk.NewUUID)
	if err != nil {
		return info, fmt.Errorf("%s@%s: making it a cluster: %w", v.Name(), info.Label, err)
	}
	return info, nil
}

// otherKind is what a PFS is, if it is no filesystem of a user's own.
func otherKind(p *chain.PFSInfo) string {
	switch {
	case p.Subtype != ondisk.PFSSubNone:
		return "a snapshot"
	case !Mountable(p):
		return "what each volume has for itself"
	case p.Type != ondisk.PFSMaster:
		return "a " + p.Type.String()
	}
	return ""
}
