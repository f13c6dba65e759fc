package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
)

const (
	stepBytes = 32 << 20
	// So many blocks in a row that are bad for other reasons than their content
	// say that the device is gone, not the data.
	goneAfter = 64
)

// A Place is how far a lane is: what a restart goes on from.
type Place struct {
	Node   string            `json:"id,omitempty"` // which member it is, whatever that is called now
	Done   bool              `json:"done"`
	PFS    string            `json:"pfs"` // "" = at the beginning
	At     chain.VerifyPlace `json:"at"`
	Report LaneReport        `json:"report"`
	Bad    damaged           `json:"damaged,omitempty"`
	Worked time.Duration     `json:"worked_ns,omitempty"`
	Rested time.Duration     `json:"rested_ns,omitempty"` // for the sake of others
	heads  bool              // the copies of the volume header were looked at
	super  bool              // what leads to the roots was looked at
	roots  bool              // they were, too
	seen   *chain.Verified   // data of the PFSs before; not kept over a restart
	failed int               // device errors in a row
}

// step verifies the next bytes of a node. It returns what it found bad, one
// place perhaps more than once.
func (p *Place) step(ctx context.Context, n cluster.ScrubNode) (bad []finding, blocks int64, err error) {
	label, err := p.settle(ctx, n)
	if err != nil || p.Done {
		return nil, 0, err
	}
	if !p.heads {
		bad, err = headers(ctx, n)
		p.heads = err == nil
		if len(bad) > 0 || err != nil {
			return bad, 0, err
		}
	}
	if !p.roots {
		bad, err = superRoot(ctx, n)
		hidden := len(bad) == 1 && bad[0].Inum == 0 && bad[0].Key == 0 // all the roots are behind it
		p.roots, p.super = p.super || !hidden, true
		if len(bad) > 0 || err != nil {
			return bad, 0, err
		}
	}
	view, err := n.Volume.ColdView(ctx, label)
	if errors.Is(err, ondisk.ErrCorrupt) && label != n.Label {
		return nil, 0, p.follow(ctx, n, label) // its root, which is known to be bad
	}
	if err != nil {
		return nil, 0, err
	}
	defer view.Release()
	next, done, stats, err := view.Verify(ctx, p.At, stepBytes, p.seen, func(e *chain.NodeError) error {
		bad = append(bad, findingOf(n.Name, label, e))
		return p.judge(e)
	})
	p.Report.Bytes += stats.Bytes // as Total, without what snapshots share
	if err != nil {
		return bad, stats.Blocks, err
	}
	if stats.Blocks > 0 {
		p.failed = 0
	}
	if p.At = next; done {
		p.At, err = chain.VerifyPlace{}, p.follow(ctx, n, label)
	}
	return bad, stats.Blocks, err
}

// headers verifies the copies of the volume headers of a node.
func headers(ctx context.Context, n cluster.ScrubNode) (bad []finding, err error) {
	list, err := n.Volume.VerifyHeaders(ctx)
	for _, h := range list {
		bad = append(bad, finding{cluster.Damage{Node: n.Name, Label: n.Label, Leaf: cluster.HeaderLeaf(h.Off)}, 0, nil})
	}
	return bad, err
}

// superRoot verifies what leads to the PFSs of a node, and their roots.
func superRoot(ctx context.Context, n cluster.ScrubNode) (bad []finding, err error) {
	var keys []uint64
	err = n.Volume.VerifySuper(ctx, func(key uint64) { keys = append(keys, key) })
	found := func(label string, l cluster.Leaf) {
		bad = append(bad, finding{cluster.Damage{Node: n.Name, Label: label, Leaf: l}, 0, nil})
	}
	if errors.Is(err, ondisk.ErrCorrupt) {
		found(n.Label, cluster.SuperLeaf(0))
		return bad, nil
	}
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	infos, _ := n.Volume.PFSs(ctx) // those that memory knows
	for _, key := range keys {
		i := slices.IndexFunc(infos, func(i chain.PFSInfo) bool { return i.Key == key })
		if i < 0 {
			found(n.Label, cluster.SuperLeaf(key))
			continue
		}
		found(infos[i].Label, cluster.RootLeaf())
	}
	return bad, nil
}

// judge ends the lane when a device fails block after block. One that answers
// with what is wrong is there, however much that is.
func (p *Place) judge(e *chain.NodeError) error {
	if errors.Is(e, ondisk.ErrCorrupt) {
		p.failed = 0
		return nil
	}
	if p.failed++; p.failed >= goneAfter {
		return fmt.Errorf("%w: %w", errDevice, e)
	}
	return nil
}

// settle returns the PFS to read, the first one at the beginning.
func (p *Place) settle(ctx context.Context, n cluster.ScrubNode) (string, error) {
	if p.seen == nil {
		p.seen = chain.NewVerified()
	}
	if p.PFS == "" {
		p.PFS = n.Label
		space := n.Volume.Space()
		p.Report.Total = int64(space.Total - space.Free - space.Pending)
	}
	p.Report.PFS = p.PFS
	labels, err := pfss(ctx, n)
	if err != nil {
		return "", err
	}
	if !slices.Contains(labels, p.PFS) { // deleted since
		p.At = chain.VerifyPlace{}
		return p.PFS, p.follow(ctx, n, p.PFS)
	}
	return p.PFS, nil
}

// follow goes to the PFS after label: the cluster's own first, then the
// others in the order of their names.
func (p *Place) follow(ctx context.Context, n cluster.ScrubNode, label string) error {
	labels, err := pfss(ctx, n)
	if err != nil {
		return err
	}
	for _, l := range labels {
		if l != n.Label && (label == n.Label || l > label) {
			p.PFS, p.Report.PFS = l, l
			return nil
		}
	}
	p.Done, p.Report.Done, p.Report.PFS = true, true, ""
	p.seen = nil
	return nil
}

// pfss lists what there is to verify on a node. A shadow is a resync's, which
// verifies what it copies.
func pfss(ctx context.Context, n cluster.ScrubNode) ([]string, error) {
	infos, err := n.Volume.PFSs(ctx)
	if err != nil && len(infos) == 0 {
		return nil, err
	}
	var labels []string
	for i := range infos {
		if !strings.HasPrefix(infos[i].Label, ".anvilfs-") {
			labels = append(labels, infos[i].Label)
		}
	}
	slices.Sort(labels)
	return labels, nil
}

// rest is how long a lane rests after a step, so that others can work.
func rest(worked time.Duration, tranquility int, busy bool) time.Duration {
	d := worked * time.Duration(tranquility)
	if busy {
		d = 2*d + worked
	}
	return min(d, time.Minute)
}
