package cluster

import (
	"cmp"
	"slices"

	"github.com/anvilfs/anvilfs/ondisk"
)

// dentState says what an entry of an overlay means.
type dentState uint8

const (
	dentLive dentState = iota // there is such an entry
	dentGone                  // the entry below with this key is deleted
	dentDead                  // nothing: was made and deleted in this group
)

// A dent is a change of one key of a directory.
type dent struct {
	ondisk.Dirent
	state dentState
	below bool  // a layer below knows the key
	next  *dent // with the same hash
}

// An odir is what an overlay changes in one directory.
type odir struct {
	byHash map[uint64]*dent
	sorted []*dent // by key
	fresh  []*dent // not yet among sorted
	slab   []dent  // room for new ones
	count  int     // not dead
}

const slabMax = 64

// hashOf is the first key of the range that key is in.
func hashOf(key uint64) uint64 { return key &^ ondisk.CollisionMask }

// key returns the dent with that key, nil if the overlay leaves it alone.
func (d *odir) key(key uint64) *dent {
	if d == nil {
		return nil
	}
	for e := d.byHash[hashOf(key)]; e != nil; e = e.next {
		if e.Key == key {
			return e
		}
	}
	return nil
}

// name returns the live entry of that name, nil if there is none here.
func (d *odir) name(hash uint64, name string) *dent {
	if d == nil {
		return nil
	}
	for e := d.byHash[hash]; e != nil; e = e.next {
		if e.state == dentLive && e.Name == name {
			return e
		}
	}
	return nil
}

// set makes key say v. below says whether a layer below knows the key.
func (d *odir) set(v ondisk.Dirent, state dentState, below bool) {
	if e := d.key(v.Key); e != nil {
		e.Dirent, e.state = v, state
		return
	}
	if len(d.slab) == cap(d.slab) {
		d.slab = make([]dent, 0, min(max(2*cap(d.slab), 2), slabMax))
	}
	d.slab = append(d.slab, dent{Dirent: v, state: state, below: below})
	e := &d.slab[len(d.slab)-1]
	if d.byHash == nil {
		d.byHash = make(map[uint64]*dent)
	}
	h := hashOf(v.Key)
	e.next = d.byHash[h]
	d.byHash[h] = e
	d.fresh = append(d.fresh, e)
	d.count++
}

// forget undoes a set of a key that no layer below knows.
func (d *odir) forget(e *dent) {
	e.state = dentDead
	d.count--
	h := hashOf(e.Key)
	at := d.byHash[h]
	if at == e {
		if e.next == nil {
			delete(d.byHash, h)
		} else {
			d.byHash[h] = e.next
		}
		return
	}
	for at.next != e {
		at = at.next
	}
	at.next = e.next
}

// order brings sorted up to date.
func (d *odir) order() []*dent {
	if len(d.fresh) == 0 {
		return d.sorted
	}
	byKey := func(a, b *dent) int { return cmp.Compare(a.Key, b.Key) }
	dead := func(e *dent) bool { return e.state == dentDead }
	fresh := slices.DeleteFunc(d.fresh, dead)
	slices.SortFunc(fresh, byKey)
	old := slices.DeleteFunc(d.sorted, dead)
	d.fresh = nil
	if len(old) == 0 {
		d.sorted = fresh
		return d.sorted
	}
	all := make([]*dent, 0, len(old)+len(fresh))
	for len(old) > 0 && len(fresh) > 0 {
		if old[0].Key < fresh[0].Key {
			all, old = append(all, old[0]), old[1:]
		} else {
			all, fresh = append(all, fresh[0]), fresh[1:]
		}
	}
	d.sorted = append(append(all, old...), fresh...)
	return d.sorted
}

// page appends copies of up to n dents with keys from from on.
func (d *odir) page(from uint64, n int, to []dent) []dent {
	all := d.order()
	i, _ := slices.BinarySearchFunc(all, from, func(e *dent, key uint64) int { return cmp.Compare(e.Key, key) })
	for ; i < len(all) && len(to) < n; i++ {
		if all[i].state != dentDead {
			to = append(to, *all[i])
		}
	}
	return to
}

// A dirLayer reads one directory of one overlay.
type dirLayer struct {
	n    *onode // nil: the overlay says nothing
	page []dent
	at   uint64 // first key not yet paged
	end  bool
}

const pageDents = 256

// peek returns the first dent with a key of at least from, nil if none. from
// must not decrease from call to call.
func (l *dirLayer) peek(from uint64) *dent {
	for {
		for len(l.page) > 0 && l.page[0].Key < from {
			l.page = l.page[1:]
		}
		if len(l.page) > 0 {
			return &l.page[0]
		}
		if l.n == nil || l.end {
			return nil
		}
		l.fill(max(from, l.at))
	}
}

func (l *dirLayer) fill(from uint64) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	l.end = true
	if l.n.dir == nil {
		return
	}
	l.page = l.n.dir.page(from, pageDents, make([]dent, 0, pageDents))
	if k := len(l.page); k == pageDents {
		l.at = l.page[k-1].Key + 1
		l.end = l.at == 0
	}
}

// setEntry changes one key of a directory.
func (o *overlay) setEntry(dir uint64, v ondisk.Dirent, state dentState, below bool) {
	n := o.node(dir)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dir == nil {
		n.dir = new(odir)
	}
	before := n.dir.count
	if e := n.dir.key(v.Key); state == dentGone && e != nil && !e.below {
		n.dir.forget(e)
	} else {
		n.dir.set(v, state, below)
	}
	o.load.leaves.Add(int64(n.dir.count - before))
	o.load.memory.Add(int64(n.dir.count-before) * entryMemory)
	if len(v.Name) > ondisk.NameInRef && state == dentLive {
		o.load.data.Add(ondisk.NameBlock)
	}
}
