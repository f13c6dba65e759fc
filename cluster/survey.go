package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Holding is what one volume has of one filesystem, as that volume alone tells
// it: another copy may know better.
type Holding struct {
	Label      string
	Clid, Fsid ondisk.UUID
	Role       ondisk.PFSType // as the charter has it, else as the PFS itself
	T          ondisk.Tid     // the last txg that is durable there; 0 = nothing was copied to it yet
	When       time.Time      // when the node came to T; zero: not noted
	Charter    *Charter       // nil: it cannot be read, there is none yet, or the PFS is of no cluster of ours
	Why        string         // why this copy counts nowhere before it is copied anew; "" = it does
}

// Survey lists the filesystems of a volume, without snapshots and what tools keep
// for themselves. It owns devs, which were opened for reading, and closes them. One
// filesystem that cannot be read does not hide the others: it is listed with the
// reason, or, if its root is damaged, there is an error beside the list.
func Survey(ctx context.Context, devs []ondisk.Device) (list []Holding, err error) {
	vol, err := chain.Open(ctx, devs, chain.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, vol.Close()) }()
	infos, err := vol.PFSs(ctx)
	for i := range infos {
		if Mountable(&infos[i]) {
			list = append(list, survey(ctx, vol, &infos[i]))
		}
	}
	return list, err
}

// Mountable reports whether a PFS is a filesystem of the user's own: no snapshot,
// nothing of a tool, and not the one that every formatter of HAMMER2 adds.
func Mountable(p *chain.PFSInfo) bool {
	return !chain.OwnLabel(p.Label) && p.Subtype == ondisk.PFSSubNone
}

func survey(ctx context.Context, vol *chain.Volume, p *chain.PFSInfo) Holding {
	h := Holding{Label: p.Label, Clid: p.Clid, Fsid: p.Fsid, Role: p.Type, T: p.T}
	m := &Media{name: vol.Name(), label: p.Label, vol: vol, info: *p}
	d, why, err := m.Load(ctx)
	if err != nil {
		h.Why = err.Error()
		return h
	}
	h.T, h.Charter, h.Why, h.When = d.Pos.T, d.Charter, why, fromNano(uint64(m.entry.Time))
	if m.solo { // made up, of itself alone
		h.Charter = nil
	}
	if h.Charter != nil {
		if member, ok := h.Charter.Config.Member(p.Fsid); ok {
			h.Role = member.Role
		}
	}
	return h
}
