package cluster

// absorb lays what u says over o, which is below it: o says then what both
// said together. u must not change any more, but is still read: by those whose
// state has u above o, for whom it makes no difference when the same is in both.
func (o *overlay) absorb(u *overlay) {
	u.bufs = nil // o has the buffers now
	for _, n := range u.sortedNodes() {
		n.mu.Lock() // entries are brought into order
		o.absorbNode(n)
		n.mu.Unlock()
	}
}

// absorbNode does it for one inode. n's lock is held; those of o come after
// those of u.
func (o *overlay) absorbNode(n *onode) {
	if n.deleted && n.rec == nil {
		o.remove(n.inum)
		return
	}
	if n.rec != nil {
		o.overlayRecord(n)
	}
	if n.dir != nil {
		for _, e := range n.dir.all() {
			// Views may have what was logged: a name made and removed since
			// then has to be hidden, not forgotten.
			o.setEntry(n.inum, e.Dirent, e.state, true)
		}
	}
	if n.rec != nil && n.rec.Meta.DirectData() {
		return
	}
	for _, h := range n.holes {
		o.punch(n.inum, h.lo, h.hi)
	}
	to := o.node(n.inum)
	to.mu.Lock()
	defer to.mu.Unlock()
	for _, b := range n.blocks {
		o.take(to, b)
	}
}

// overlayRecord is put, but for inline content that was below: what is left of
// it lies in a block of n.
func (o *overlay) overlayRecord(n *onode) {
	to := o.node(n.inum)
	to.mu.Lock()
	defer to.mu.Unlock()
	if n.rec.Meta.DirectData() {
		o.dropBlocks(to, 0, maxData)
		if !o.isNew(n.inum) {
			to.addHole(0, maxData)
		}
	}
	to.rec, to.deleted = n.rec, false
}

// take makes b, of the layer above, the block of to at its key. The buffer is
// read through both from now on, and left to the collector.
func (o *overlay) take(to *onode, b *oblock) {
	o.dropBlocks(to, b.key, b.key+1)
	t := to.insert(b.key)
	*t = oblock{key: b.key, buf: b.buf, frozen: true, shared: true, early: true, ready: b.ready, hole: b.hole, enc: b.enc}
	o.load.leaves.Add(1)
	o.load.memory.Add(int64(cap(b.buf)))
	o.load.data.Add(mediaSize(len(b.buf)))
}

// all returns the dents that say something.
func (d *odir) all() []dent {
	var all []dent
	for _, e := range d.order() {
		if e.state != dentDead {
			all = append(all, *e)
		}
	}
	return all
}
