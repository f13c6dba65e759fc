package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Branch is what a soft master that was mounted alone knows of where it
// comes from: the content of inode 8. From its first such mount on it is a
// cluster of its own, with an id of its own, so that nobody takes it for a
// member; what it was then is kept beside it, under BaseLabel. Back in its
// cluster, its changes are merged (package merge) and it is a member again.
type Branch struct {
	Cluster ondisk.UUID // that it comes from
	Node    ondisk.UUID // its fsid, there and here
	Base    Position    // what it had of the cluster
	// BaseInum is the highest inode number handed out by then: a higher one
	// means one file here and another there.
	BaseInum uint64
	Promised core.Ballot // by then, to a primary of the cluster
	Since    time.Time   // of the first mount alone
}

const (
	branchMagic = "ANVBRAN1"
	lenBranch   = 96
)

// BaseLabel is the label under which a branch keeps what it was.
func BaseLabel(node ondisk.UUID) string { return ".anvilfs-base-" + node.String()[:8] }

// EncodeBranch returns the content of the inode, little-endian.
func EncodeBranch(b *Branch) []byte {
	le := binary.LittleEndian
	out := append(make([]byte, 0, lenBranch), branchMagic...)
	out = append(out, b.Cluster[:]...)
	out = append(out, b.Node[:]...)
	out = le.AppendUint64(out, uint64(b.Base.T))
	out = append(out, b.Base.H[:]...)
	out = le.AppendUint64(out, b.BaseInum)
	out = le.AppendUint64(out, uint64(b.Promised.Epoch))
	out = le.AppendUint64(out, b.Promised.Cand)
	return le.AppendUint64(out, uint64(unixNano(b.Since)))
}

// DecodeBranch reads what EncodeBranch writes. Errors are ondisk.ErrCorrupt.
func DecodeBranch(p []byte) (*Branch, error) {
	le := binary.LittleEndian
	if len(p) != lenBranch || string(p[:8]) != branchMagic {
		return nil, fmt.Errorf("record of a branch: %d bytes without its mark: %w", len(p), ondisk.ErrCorrupt)
	}
	b := &Branch{Cluster: ondisk.UUID(p[8:]), Node: ondisk.UUID(p[24:]),
		Base: Position{T: ondisk.Tid(le.Uint64(p[40:])), H: History(p[48:64])}, BaseInum: le.Uint64(p[64:]),
		Promised: core.Ballot{Epoch: uint32(le.Uint64(p[72:])), Cand: le.Uint64(p[80:])}, Since: fromNano(le.Uint64(p[88:]))}
	if b.Cluster.IsZero() || b.Node.IsZero() || b.Base.IsZero() || le.Uint64(p[72:])>>31 != 0 || b.BaseInum >= ondisk.AttrBit {
		return nil, fmt.Errorf("record of a branch from %v, node %v, at %v: %w", b.Cluster, b.Node, b.Base.T, ondisk.ErrCorrupt)
	}
	return b, nil
}

// readBranch returns the record of a tree, nil if that PFS is no branch.
func readBranch(ctx context.Context, v *chain.View, fsid ondisk.UUID) (*Branch, error) {
	in, ok, err := v.Inode(ctx, ondisk.InumBranch)
	if err != nil || !ok {
		return nil, err
	}
	if !in.Meta.DirectData() || in.Meta.Size != lenBranch {
		return nil, nil // a file of a PFS that others numbered
	}
	b, err := DecodeBranch(in.Inline[:lenBranch])
	if err != nil || b.Node != fsid { // a clone has the record, and is no branch
		return nil, err
	}
	return b, nil
}

// branchRecord is the change that stores the record.
func branchRecord(b *Branch) chain.Change {
	meta := ondisk.NewInodeMeta(ondisk.InumBranch, ondisk.ObjFile)
	meta.Mode, meta.Nlinks, meta.Iparent = 0o600, 1, ondisk.InumRoot
	meta.OpFlags |= ondisk.OpDirectData
	meta.Size = lenBranch
	return chain.Change{Inum: ondisk.InumBranch, Kind: chain.KindInode, Inode: &meta, Inline: EncodeBranch(b)}
}

// returns reports whether c is a branch that came back to the cluster, and not
// what is mounted.
func (e *engine) returns(c *conn) bool {
	if c.fork == nil {
		return false
	}
	if e.clid.IsZero() {
		return len(e.members) > 1
	}
	return e.clid != c.info.Clid
}

// noteBranch keeps a branch away from the protocol: it is merged first.
func (e *engine) noteBranch(m *member) {
	m.flags = m.first.Flags
	if !e.o.ReadOnly && e.primary != nil {
		if law := e.primary.Charter(); law != nil {
			if _, ok := law.Config.Member(m.fsid); !ok {
				m.enter(NodeOffline, "a branch of a member that was removed from the cluster: mount it alone to copy from it", "")
				return
			}
		}
	}
	if m.flags != 0 {
		m.enter(NodeTainted, m.conn.reason(), "")
		return
	}
	m.enter(NodeBranch, fmt.Sprintf("it was changed while it was away, since tid %v", m.conn.fork.Base.T), "")
}

// notBranch refuses what makes no sense in a branch.
func (e *engine) notBranch() error {
	if e.forked == nil {
		return nil
	}
	return errors.New("a branch is one copy: its members are changed where it comes from, after it was merged there")
}

// branchOff makes a soft master that is mounted alone, for writing, a cluster
// of its own, in one commit. Later mounts find it so.
func (e *engine) branchOff(ctx context.Context, opened []opening) error {
	if len(opened) != 1 || len(e.members) != 1 || e.o.ReadOnly {
		return nil
	}
	r := &opened[0]
	if r.c == nil || r.d.Flags != 0 || r.d.Charter == nil || r.d.Pos.IsZero() {
		return nil
	}
	in, ok := r.d.Charter.Config.Member(r.c.info.Fsid)
	if !ok || in.Role != ondisk.PFSSoftMaster {
		return nil
	}
	if err := r.c.branchOff(ctx, &r.d, in, e.o.Now()); err != nil {
		return fmt.Errorf("%s cannot be made a branch: %w", r.c.name, err)
	}
	d, err := r.c.load(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", r.c.name, err)
	}
	r.d = d
	e.log.Info("a branch begins here", "member", r.c.name, "base", r.c.fork.Base.T.String(), "cluster", r.c.fork.Cluster.String())
	return nil
}

func (c *conn) branchOff(ctx context.Context, d *core.Durable, in Member, now time.Time) error {
	infos, err := c.vol.PFSs(ctx)
	if err != nil {
		return err
	}
	base := BaseLabel(c.info.Fsid)
	b := &Branch{Cluster: c.info.Clid, Node: c.info.Fsid, Base: d.Pos, Promised: d.Promised, Since: now}
	epoch := max(d.Pos.T.Epoch(), d.Promised.Epoch)
	if marks := d.Charter.Lineage.Epochs; len(marks) > 0 {
		epoch = max(epoch, marks[len(marks)-1].Epoch)
	}
	epoch++
	law := &Charter{Config: Config{Version: d.Charter.Config.Version + 1,
		Members: []Member{{Fsid: in.Fsid, Role: ondisk.PFSMaster, Incarnation: in.Incarnation}}},
		Lineage: *d.Charter.Lineage.WithEpoch(epoch, d.Pos)}
	t, err := c.vol.Begin(ctx)
	if err != nil {
		return err
	}
	for i := range infos {
		switch infos[i].Label {
		case base: // of a branch whose merging ended before this one began
			err = errors.Join(err, t.DeletePFS(ctx, base))
		case c.label:
			b.BaseInum = infos[i].LastInum
		}
	}
	txg := charterBatch(ondisk.MakeTid(epoch, 0), law)
	txg.Changes = append(txg.Changes, branchRecord(b))
	pos := Position{T: txg.T, H: NextH(d.Pos.H, txg.T, law.Config.Version, Manifest(txg))}
	clid := ondisk.NewUUID()
	entry := c.entry
	entry.PromisedEpoch, entry.Candidate, entry.ConfigVersion = epoch, 0, law.Config.Version
	entry.T, entry.H, entry.Acked, entry.AckedBy, entry.Time = pos.T, pos.H, pos.T, 0, now.UnixNano()
	err = errors.Join(err,
		t.Snapshot(ctx, c.label, base, chain.SnapSpec{Shadow: true}),
		t.SetPFS(ctx, c.label, func(m *ondisk.InodeMeta) { m.PFSClid, m.PFSType = clid, ondisk.PFSMaster }),
		t.Apply(ctx, c.label, txg),
		t.SetState(entry))
	if err != nil {
		t.Abort()
		return err
	}
	if err := t.Commit(ctx); err != nil {
		return err
	}
	c.info.Clid, c.info.Type = clid, ondisk.PFSMaster
	return nil
}

// A BranchNode is a branch that is back, and waits to be merged.
type BranchNode struct {
	Name   string
	Label  string
	Branch Branch
	Clid   ondisk.UUID // its own
	At     Position    // its last txg
	Lineage
	Volume *chain.Volume
}

// Branches are the branches that are back.
func (p *Pool) Branches() []BranchNode {
	if e, ok := p.engine.(*engine); ok && !p.opts.ReadOnly {
		return e.branches()
	}
	return nil
}

func (e *engine) branches() (out []BranchNode) {
	e.ask(func() {
		if e.primary == nil || e.primary.Phase() != core.Serving || e.past {
			return
		}
		for _, m := range e.members {
			if m.conn == nil || m.state != NodeBranch {
				continue
			}
			c := m.conn
			out = append(out, BranchNode{m.spec.Name, c.label, *c.fork, c.info.Clid, m.first.Pos, m.first.Charter.Lineage, c.vol})
		}
	})
	return out
}

// BranchOf is where what is mounted comes from, nil if it is no branch.
func (p *Pool) BranchOf() *Branch {
	if e, ok := p.engine.(*engine); ok {
		return e.forked
	}
	return nil
}

// EndBranch makes a branch whose changes are all in the cluster a member again:
// what it was stays as the snapshot of the name it returns, and from what it had
// of the cluster it is brought in sync. Snapshots made in the branch stay beside
// it.
func (p *Pool) EndBranch(ctx context.Context, b *BranchNode) (kept string, err error) {
	e, ok := p.engine.(*engine)
	if !ok {
		return "", errNotClustered
	}
	kept, err = endBranch(ctx, b)
	if err != nil {
		return "", fmt.Errorf("%s: ending the branch: %w", b.Name, err)
	}
	defer e.merging(b.Name, false)
	e.merging(b.Name, true)
	if err := e.offline(ctx, b.Name); err != nil {
		return kept, err
	}
	return kept, e.online(ctx, b.Name)
}

// merging makes a member that is closed for a moment be told of as the branch
// that it was: nobody shall take it for one that is away.
func (e *engine) merging(name string, yes bool) {
	e.ask(func() {
		if m := e.byName(name); m != nil {
			m.merged = yes
		}
	})
}

// endBranch is one commit.
func endBranch(ctx context.Context, b *BranchNode) (kept string, err error) {
	infos, err := b.Volume.PFSs(ctx)
	if err != nil {
		return "", err
	}
	kept = b.keepName(infos)
	old, err := b.Volume.View(ctx, BaseLabel(b.Branch.Node))
	if err != nil {
		return "", err
	}
	table, err := ReadSnapshotTable(ctx, old)
	old.Release()
	if err != nil {
		return "", err
	}
	t, err := b.Volume.Begin(ctx)
	if err != nil {
		return "", err
	}
	t.UseReserve()
	entry, _ := b.Volume.State(b.Branch.Node)
	entry.PromisedEpoch, entry.Candidate = b.Branch.Promised.Epoch, b.Branch.Promised.Cand
	entry.T, entry.H, entry.Acked = b.Branch.Base.T, b.Branch.Base.H, b.Branch.Base.T
	entry.ResyncGoal, entry.ShadowKey, entry.ConfigVersion, entry.AckedBy, entry.Time = 0, 0, 0, 0, 0
	for i := range infos {
		// Its own are no snapshots of the member: nobody shall tidy them away.
		if p := &infos[i]; p.SnapshotOf(b.Branch.Node) && !table.Has(p.Label, p.Clid) {
			err = errors.Join(err, t.SetPFS(ctx, p.Label, func(m *ondisk.InodeMeta) { m.PFSFsid = ondisk.NewUUID() }))
		}
	}
	err = errors.Join(err,
		t.Snapshot(ctx, b.Label, kept, chain.SnapSpec{}),
		t.SwapRoot(ctx, b.Label, BaseLabel(b.Branch.Node)),
		t.SetPFS(ctx, b.Label, func(m *ondisk.InodeMeta) { m.PFSClid, m.PFSType = b.Branch.Cluster, ondisk.PFSSoftMaster }),
		t.SetState(entry))
	if err != nil {
		t.Abort()
		return "", err
	}
	return kept, t.Commit(ctx)
}

// keepName is branch-NODE-T, as long as nobody has it.
func (b *BranchNode) keepName(infos []chain.PFSInfo) string {
	first := fmt.Sprintf("branch-%s-%d.%d", ShortName(b.Name), b.At.T.Epoch(), b.At.T.Seq())
	name := first
	for i := 2; ; i++ {
		taken := false
		for j := range infos {
			taken = taken || infos[j].Label == name
		}
		if !taken {
			return name
		}
		name = fmt.Sprintf("%s-%d", first, i)
	}
}

// ShortName is the name of a node as it can be part of a file's: the last part
// of the path to its first device.
func ShortName(node string) string {
	node, _, _ = strings.Cut(node, ":")
	node = node[strings.LastIndexByte(node, '/')+1:]
	short := strings.Map(func(r rune) rune {
		if r <= ' ' || strings.ContainsRune("/@,:\\\x7f\uFFFD", r) {
			return '_'
		}
		return r
	}, node)
	if len(short) > 32 {
		short = short[len(short)-32:]
	}
	if short == "" {
		return "node"
	}
	return short
}

// ReadLineage reads the lineage of a tree.
func ReadLineage(ctx context.Context, v *chain.View) (*Lineage, error) {
	law, err := readCharter(ctx, v)
	if err != nil || law == nil {
		return &Lineage{}, err
	}
	return &law.Lineage, nil
}

// ReserveInums sets n numbers aside for inodes, the first of which it returns.
// That lasts if the root's record is put in the same transaction as what says so.
func (p *Pool) ReserveInums(n uint64) (first uint64) { return p.lastInum.Add(n) - n + 1 }

// SetConflicts makes Status say how many conflicts there are to be decided.
func (p *Pool) SetConflicts(n int) { p.conflicts.Store(int64(n)) }
