package cluster

import (
	"context"
	"errors"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// mayLog reports whether a job may go into the intent log: a txg that asks for
// it and changes nothing but leaves. What changes a promise, the charter or the
// trust in the node is for the header.
func (m *Media) mayLog(j *core.Job, before core.Durable) bool {
	if j.Txg == nil || j.Whole || j.Txg.Charter != nil || j.Ballot != before.Promised || before.Flags != 0 {
		return false
	}
	return j.Txg.Batch.(*chain.Batch).Log
}

// log makes a txg durable in the intent log. chain.ErrNotLogged: it is to be
// committed instead.
func (m *Media) log(ctx context.Context, j *core.Job, before core.Durable) error {
	x := chain.LogTxg{
		Label: m.label, Fsid: m.info.Fsid, Batch: j.Txg.Batch.(*chain.Batch),
		Prev: chain.LogPos{T: before.Pos.T}, Pos: chain.LogPos{T: j.Txg.Pos.T},
	}
	var entry ondisk.StateEntry
	if !m.solo {
		x.Prev.H, x.Pos.H = before.Pos.H, j.Txg.Pos.H
		entry = m.nextEntry(j.After(before))
		x.Entry = &entry
	}
	if err := m.vol.Log(ctx, x); err != nil {
		return err
	}
	if !m.solo {
		m.entry = entry
	}
	return nil
}

// Level brings what the intent log holds into the tree.
func (m *Media) Level(ctx context.Context) error { return m.vol.Checkpoint(ctx) }

// GiveUpLog drops what the log holds if err says that the tree is too damaged
// to take it, and if others have it: the node is tainted until it is copied
// anew, also after a crash.
func (m *Media) GiveUpLog(ctx context.Context, err error) (dropped bool) {
	if m.solo || !errors.Is(err, chain.ErrLogStuck) || m.vol.Probe() != nil || m.vol.GiveUpLog(ctx) != nil {
		return false
	}
	m.entry, _ = m.vol.State(m.info.Fsid)
	return true
}

// Copied reports whether a clustered PFS has a master elsewhere. If its charter
// cannot be read, nothing of it can be mounted alone in any case.
func Copied(ctx context.Context, v *chain.Volume, p *chain.PFSInfo) bool {
	view, err := v.View(ctx, p.Label)
	if err != nil {
		return true
	}
	defer view.Release()
	law, err := readCharter(ctx, view)
	if err != nil || law == nil {
		return true
	}
	for _, m := range slices.Concat(law.Config.Members, law.Config.Joint) {
		if m.Role == ondisk.PFSMaster && m.Fsid != p.Fsid {
			return true
		}
	}
	return false
}

const whyLogLost = "its intent log could not be brought into its tree, and was given up"
