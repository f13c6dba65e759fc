package sim

import (
	"slices"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// In some seeds the disk of one node, the victim, does worse than fail: reads
// end in EIO, once or until the place is written again, or what it holds of
// headers and freemap is lost, misplaced, torn or changed without a word, or it
// says of flushes that they are done, and most are not. In others only blocks
// suffer so.
//
// A header that cannot be read, or was never written, is a txg or a promise
// forgotten. So the victim is judged like one who lies about flushes (lie.go),
// and there is one primary, as with local members. A victim that has no freemap
// left to trust has no space, whatever is free: it is to be replaced.

// A damage is what a kind of seed does to its victim.
type damage uint8

const (
	none    damage = iota
	blocks         // silently, blocks of trees
	heads          // silently, headers and freemap as well
	reads          // reads fail
	flushes        // it says of flushes that they are done, and they are not
)

// damages reports whether n is the victim of such damage.
func (n *node) damages(kinds ...damage) bool {
	for _, d := range kinds {
		if n.w.kind.damage == d && n.index == n.w.victim && n.vol != nil {
			return true
		}
	}
	return false
}

// spots are the places of headers, of the freemap - that of the first zone, and
// what the newest header refers to - and of records of the intent log.
func (p *platter) spots() []int64 {
	var out []int64
	for _, off := range ondisk.SlotOffsets(uint64(p.media.Size())) {
		out = append(out, off)
	}
	for i := range int64(ondisk.FreemapCopies) {
		out = append(out, (1+5*i)*ondisk.MaxBlock) // leaves
	}
	used := p.lookAt().freemap
	for i := range min(3*len(used), 3) {
		out = append(out, used[i%len(used)])
	}
	for i := range int64(4) {
		out = append(out, p.auxBeg+i<<12)
	}
	return out
}

// spoil damages something at rest, always on the victim: what a quorum of the
// others holds must be enough to mend it.
func (w *world) spoil() {
	if w.kind.damage == none || !w.opt.Volumes {
		return
	}
	if n := w.nodes[w.victim]; n.damages(flushes) {
		w.bounce(n, true)
		return
	}
	n, salt := w.nodes[w.victim], w.rng.Uint64()
	p := n.vol.platter
	off, ok := p.place(salt)
	if spots := p.spots(); n.damages(heads) || n.damages(reads) && w.chance(0.3) {
		off, ok = spots[salt%uint64(len(spots))]+int64(salt>>32%1024), true
	}
	if !ok {
		return
	}
	n.spoilt = true
	if n.damages(reads) {
		off &^= sectorSize - 1
		p.bad[off] = true
		w.logf("%s: the sector at %#x cannot be read", nodeName(n.id), off)
		return
	}
	p.flip(off, 1<<(salt>>60&7))
	w.logf("%s: a bit at %#x turned over", nodeName(n.id), off)
}

// mayFail draws whether reads of the victim fail until calm is called.
func (n *node) mayFail(p float64) {
	if n.damages(reads) && !n.w.calm && n.w.chance(p) {
		n.vol.session.stage(failRead, n.w.rng.Uint64())
	}
}

// calmReads ends what mayFail began.
func (n *node) calmReads() {
	if n.damages(reads) && n.vol.session != nil {
		n.vol.heard()
		n.vol.session.stage(noFault, 0)
	}
}

// heard counts what the session's last stage did.
func (v *volume) heard() {
	s, w := v.session, v.n.w
	if s.fired == 0 {
		return
	}
	w.stats.Faults += s.fired
	w.logf("%s: %v (%d)", s.name, s.fault, s.fired)
	v.n.spoilt = v.n.spoilt || s.fault.silent() || s.fault == failRead || s.fault == dropFlush && v.n.damages(flushes)
	switch {
	case s.fault == failRead:
		w.stats.FailedReads++
	case s.heads > 0:
		w.stats.BadHeads++
	}
	s.fired, s.heads = 0, 0
}

// forgets takes note that an open found less than was durable: I10, where the
// disk is to blame. It may have told of it.
func (n *node) forgets(d core.Durable) bool {
	// Damage in the tree alone is enough where it stands in the way of what is in the
	// intent log: the node lost that, and says that it is not to be believed.
	known := n.damages(heads, reads, flushes) || d.Flags&core.Tainted != 0
	if !known || !n.spoilt {
		return false
	}
	if d.Pos != n.durable.Pos && !slices.Contains(n.maybe, d.Pos) || d.Promised.Epoch < n.promise {
		n.w.logf("%s forgot %v, and is at %v", nodeName(n.id), n.durable.Pos, d.Pos)
		n.w.lie.forgot = true
		n.w.stats.Forgot++
		n.cloned = nil // perhaps it had them in what is lost
	}
	n.lags = n.w.kind.snaps // what was copied of them may be lost, and the txgs not
	n.promise = min(n.promise, d.Promised.Epoch)
	return true
}

// unusable reports whether the victim's disk leaves it no way back: it does not
// open, or nothing can be allocated there. Both are named.
func (n *node) unusable() bool {
	return n.refused != nil || n.spoilt && n.noRoom && n.damages(heads, reads, flushes)
}

// spoiltJob does what a mount does when a job met damage in the tree: the node
// is copied anew. It reports whether that was it.
func (n *node) spoiltJob() bool {
	w := n.w
	if n.vol == nil || !n.spoilt || !n.vol.media.Damages(n.vol.err) {
		return false
	}
	w.stats.Condemned++
	w.logf("%s is copied anew: %v", nodeName(n.id), n.vol.err)
	d := n.core.State()
	d.Flags |= core.Tainted
	n.step(core.Reset{State: d})
	for _, p := range w.prims {
		p.step(core.Detach{Node: n.id})
		p.reattach(n)
	}
	return true
}
