package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Media is one open of one node's volume: what the steps of a core.Node ask
// for is done here, and nowhere else. It has no goroutines, locks or clock: the
// engine drives it for real, a simulation in its own time. One call at a time.
type Media struct {
	name  string
	label string
	vol   *chain.Volume
	info  chain.PFSInfo // at open
	solo  bool          // not clustered: no state is kept
	fork  *Branch       // it was mounted alone, away from its cluster; nil = it was not
	snap  bool          // a snapshot: it is only shown
	entry ondisk.StateEntry
	now   func() time.Time // of positions; nil: the time is not noted

	mended bool // a resync made it whole since it was opened
}

// OpenMedia opens the PFS of that label on devs, which it owns from then on.
// The caller reads its state with Load before anything else. Errors that are
// a *refusal are about what the user asked for; others about the device.
func OpenMedia(ctx context.Context, name string, devs []ondisk.Device, label string, o chain.Options) (*Media, error) {
	o.Copied = Copied
	vol, err := chain.Open(ctx, devs, o)
	if err != nil {
		return nil, err
	}
	m := &Media{name: name, vol: vol}
	if m.info, err = findPFS(ctx, vol, label); err != nil {
		err = vol.Unused(err)
		vol.Close()
		return nil, err
	}
	m.label = m.info.Label
	return m, nil
}

// Volume is what it lies on.
func (m *Media) Volume() *chain.Volume { return m.vol }

// Fsid is the node's id.
func (m *Media) Fsid() ondisk.UUID { return m.info.Fsid }

// Load reads the state of the PFS from the volume. If its flags are set, why
// says what is wrong.
func (m *Media) Load(ctx context.Context) (d core.Durable, why string, err error) {
	// The header is not all that was acknowledged while the log holds txgs.
	if err := m.Level(ctx); err != nil {
		return d, "", err
	}
	entry, clustered := m.vol.State(m.info.Fsid)
	v, err := m.vol.View(ctx, m.label)
	if err != nil {
		return d, "", err
	}
	T := v.T()
	law, err := readCharter(ctx, v)
	if err == nil && clustered {
		m.fork, err = readBranch(ctx, v, m.info.Fsid)
	}
	v.Release()
	if !clustered {
		if err != nil {
			return d, "", err
		}
		d, why = m.loadSolo(T, law)
		return d, why, nil
	}
	m.entry = entry
	d = core.Durable{
		Promised:    core.Ballot{Epoch: entry.PromisedEpoch, Cand: entry.Candidate},
		Pos:         Position{T: entry.T, H: entry.H},
		Charter:     law,
		Incarnation: entry.Incarnation,
		Acked:       entry.AckedBy,
	}
	if err != nil && !errors.Is(err, ondisk.ErrCorrupt) && m.vol.Probe() != nil {
		return d, "", err // not damage: the device is gone
	}
	switch {
	case entry.T == 0: // made by replace, nothing was copied to it yet
		d.Pos, d.Charter = Position{}, nil
	case T != entry.T:
		d.Flags |= core.Foreign
		why = fmt.Sprintf("changed by another system: the tree is at %v, our last txg was %v", T, entry.T)
	case err != nil:
		d.Flags |= core.Tainted
		why = err.Error()
	case law == nil:
		d.Flags |= core.Tainted
		why = "the charter of the cluster is gone"
	case entry.Flags&ondisk.StateLost != 0:
		d.Flags |= core.Tainted
		why = whyLogLost
	case m.vol.Tainted() != nil && !m.mended:
		d.Flags |= core.Tainted
		why = m.vol.Tainted().Error()
	}
	if text := wild(&entry, law); text != "" {
		// No promise of that epoch was ever asked for: what stands there is
		// damage, and would drag all others along.
		d.Flags |= core.Tainted
		d.Promised, d.Pos, d.Charter = core.Ballot{}, Position{}, nil
		why = text
	}
	return d, why, nil
}

// wild says why the numbers of an entry cannot have been reached: epochs rise
// by one with each election, and a node promises no more than a jump ahead.
func wild(e *ondisk.StateEntry, law *Charter) string {
	known := e.T.Epoch()
	if law != nil && len(law.Lineage.Epochs) > 0 {
		known = law.Lineage.Epochs[len(law.Lineage.Epochs)-1].Epoch // no txg is of a later one
	}
	switch {
	case e.T>>63 != 0 || known > core.LastEpoch || e.T.Epoch() > known+core.MaxEpochJump:
		return fmt.Sprintf("its cluster state is damaged: no txg has the number %v", e.T)
	case e.PromisedEpoch > core.LastEpoch || e.T != 0 && e.PromisedEpoch >= known+core.MaxEpochJump: // the next one would be refused
		return fmt.Sprintf("its cluster state is damaged: epoch %d promised at txg %v", e.PromisedEpoch, e.T)
	}
	return ""
}

// loadSolo is Load for a PFS without a state entry: made by others, or never
// part of a cluster. A charter that lists it says that its state was lost.
func (m *Media) loadSolo(T ondisk.Tid, law *Charter) (core.Durable, string) {
	if law != nil {
		if _, member := law.Config.Member(m.info.Fsid); member {
			m.entry = ondisk.StateEntry{Fsid: m.info.Fsid}
			return core.Durable{Flags: core.Tainted}, "its cluster state is gone from the volume header"
		}
	}
	if m.info.Subtype != ondisk.PFSSubNone {
		// Copies of one snapshot have one identity, and nothing that could
		// differ: whenever a member made its copy, they are at one position.
		m.snap = true
		return core.Durable{Pos: Position{T: ondisk.MakeTid(1, 0), H: History(m.info.Clid)}}, ""
	}
	m.solo = true
	return core.Durable{Pos: Position{T: T}, Charter: &Charter{Config: Config{
		Members: []Member{{Fsid: m.info.Fsid, Role: ondisk.PFSMaster}},
	}}}, ""
}

// Perform makes a job durable: txg and state entry in one header commit, or in
// one record of the intent log, or nothing. Jobs are not cancelled: half of one is worth nothing.
func (m *Media) Perform(j *core.Job, before core.Durable) error {
	ctx := context.Background()
	if m.solo && j.Txg == nil {
		return nil
	}
	if m.mayLog(j, before) {
		if err := m.log(ctx, j, before); !errors.Is(err, chain.ErrNotLogged) {
			return err
		}
	}
	t, err := m.vol.Begin(ctx)
	if err != nil {
		m.GiveUpLog(ctx, err)
		return err
	}
	if j.Txg != nil {
		t.UseReserve() // what was admitted has a right to the space
		if law := before.Charter; law != nil && !law.Config.IsMaster(m.info.Fsid) {
			LeaveRoom(ctx, t, m.vol, m.info.Fsid) // nobody asked it
		}
		err = t.Apply(ctx, m.label, j.Txg.Batch.(*chain.Batch))
	}
	entry := m.entry
	if err == nil && !m.solo {
		entry = m.nextEntry(j.After(before))
		if j.Whole {
			entry.Flags &^= ondisk.StateLost
		}
		err = t.SetState(entry)
	}
	if err != nil {
		t.Abort()
		return err
	}
	if err := t.Commit(ctx); err != nil {
		return err
	}
	m.entry = entry
	return nil
}

// LeaveRoom has a transaction leave what it takes to remove something from the
// node: to be copied to while it holds its old state, too.
func LeaveRoom(ctx context.Context, t *chain.Txn, v *chain.Volume, node ondisk.UUID) {
	t.Leave(chain.LastRoom, func() bool {
		infos, err := v.PFSs(ctx)
		return err != nil || slices.ContainsFunc(infos, func(p chain.PFSInfo) bool { return p.SnapshotOf(node) })
	})
}

// MakeRoom looks for space after a txg found none.
func (m *Media) MakeRoom(ctx context.Context) error { return makeRoom(ctx, m.vol) }

// makeRoom finds what a crash or deleted snapshots left allocated, however
// little is lacking: what was admitted counted on all that was free then.
func makeRoom(ctx context.Context, v *chain.Volume) error {
	err := v.DrainFrees(ctx)
	if s := v.Space(); err == nil && (s.Lost > 0 || s.Avail() < s.Total/64) {
		_, err = v.Bulkfree(ctx, chain.BulkfreeOptions{})
	}
	return err
}

// Result is what the node is to be told of a job that ended with err.
func (m *Media) Result(err error) core.Result {
	switch {
	case err == nil:
		return core.OK
	case errors.Is(err, chain.ErrNoSpace) && m.vol.Failed() == nil:
		return core.Full
	}
	return core.Broken
}

// nextEntry is the durable state as the header keeps it. What other parts
// keep in the entry stays.
func (m *Media) nextEntry(d core.Durable) ondisk.StateEntry {
	e := m.entry
	e.Fsid = m.info.Fsid
	e.PromisedEpoch, e.Candidate = d.Promised.Epoch, d.Promised.Cand
	if e.T != d.Pos.T && m.now != nil {
		e.Time = m.now().UnixNano()
	}
	e.T, e.H, e.Acked, e.AckedBy = d.Pos.T, d.Pos.H, d.Pos.T, d.Acked
	e.Incarnation = d.Incarnation
	if d.Charter != nil {
		e.ConfigVersion = d.Charter.Config.Version
	}
	return e
}

// Target is the node as a resync gets it: at d, while law, if not nil, is the
// charter in force. Of a node that is not to be trusted nothing is kept. What
// the resync commits raises the promise to lead, as a txg does: the state is of
// that epoch, and no older one may go on from it.
func (m *Media) Target(d core.Durable, law *Charter, lead core.Ballot, trusted bool) *ResyncTarget {
	t := &ResyncTarget{Name: m.name, Volume: m.vol, Label: m.label, Position: d.Pos, Resume: m.entry}
	if d.Charter != nil {
		t.Lineage = d.Charter.Lineage
	}
	if !trusted {
		t.Position, t.Lineage = Position{}, Lineage{}
	}
	t.Resume.AckedBy = 0 // of a txg that the copy is not made of
	if lead.Epoch > t.Resume.PromisedEpoch {
		t.Resume.PromisedEpoch, t.Resume.Candidate = lead.Epoch, lead.Cand
	}
	if law != nil {
		if in, ok := law.Config.Member(m.info.Fsid); ok && !in.Incarnation.IsZero() {
			t.Resume.Incarnation = in.Incarnation
		}
	}
	return t
}

// Mended looks whether a resync left the node at want, in words that a later
// Load believes: what was wrong with it at open is made good.
func (m *Media) Mended(want Position) error {
	if entry, _ := m.vol.State(m.info.Fsid); entry.T != want.T || entry.H != want.H {
		return fmt.Errorf("%s is at %v, not at %v", m.name, entry.T, want.T)
	}
	m.mended = true
	return nil
}

// CharterTxg is the content of a txg that stores a charter, as
// core.PrimaryOptions.Make wants it.
func CharterTxg(T ondisk.Tid, c *core.Charter) (batch any, manifest [32]byte, size int64) {
	b := charterBatch(T, c)
	return b, Manifest(b), batchSize(b)
}
