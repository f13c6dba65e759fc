package sim

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
	resync "github.com/anvilfs/anvilfs/sync"
)

// Options say what a run is like.
type Options struct {
	Seed uint64
	// Volumes puts the nodes' state on real volumes over imagined devices;
	// otherwise disks are imagined as a whole, which is a hundred times faster.
	Volumes bool
	Omit    core.Rule
	// NoOpenFlush leaves out that a node flushes what it read before it
	// answers; with volumes the device does not hear that flush.
	NoOpenFlush bool
	// Lies makes node 0's imagined disk forget what it was told to flush.
	Lies    bool
	Verbose func(format string, args ...any)
}

// sound reports whether no rule is left out.
func (o *Options) sound() bool { return o.Omit == 0 && !o.NoOpenFlush }

// Stats counts what happened in a run.
type Stats struct {
	Seeds, Steps, Messages, Faults, Elections, Commits, Operations, Changes int
	Calm, Deep                                                              int // seeds
	Resyncs, Held, Reads, Flushes, Checks, Mended, Condemned, Refused       int
	Tallies, Whole, Verified                                                int // I8, I20, I18
	FailedReads, BadHeads, Forgot, Marred, Blind, Unflushed                 int // of openings: Marred headers, Blind without freemap
	Crowded, NoRoom, Full, Regained, Emptied, Bulkfrees                     int // of seeds with full disks; Regained in KiB
	Slotted, Moved, TightClones, Dropped                                    int // of these: with several header slots; changes of members; clones
	Snapshots, Unmade, Kept, Rollbacks, Clones                              int // Kept: not deleted, since held
	OpsCut, CaughtUp, Parked, Beside                                        int // Beside: snapshots and clones read
	Retaken, Operated                                                       int // Retaken: over what another history left
	OpsHurt, OpsLied, OpsTight, BackHard                                    int // of Operated: on disks that damage, lie, are full; rollbacks there
	Copied                                                                  map[string]int
}

// A world is one run.
type world struct {
	opt      Options
	rng      *rand.Rand
	now      time.Duration
	seq      uint64
	queue    events
	nodes    []*node
	prims    []*prim
	kind     kind
	calm     bool // no more faults
	rotted   bool // see onlyOnRot
	victim   int  // the node whose disk does damage
	trim     bool // faults are over: what is on full disks goes
	refusing bool // space was short a moment ago: files are deleted
	lease    time.Duration
	lossy    float64
	check    checker
	lie      lie
	stats    Stats
	ids      uint64
	failure  error
}

// A kind is what a seed is about.
type kind struct {
	calm   bool    // no faults at all: everything must succeed
	deep   bool    // a long run
	damage damage  // what one node's disk does
	full   bool    // disks are small
	slots  bool    // and have several header slots
	snaps  bool    // there are snapshots
	change float64 // how often members change instead of a txg
	busy   int     // operations of a txg, at most
	last   time.Duration
}

type event struct {
	at  time.Duration
	seq uint64
	run func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

func (w *world) after(d time.Duration, run func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + d, w.seq, run})
}

func (w *world) logf(format string, args ...any) {
	if w.opt.Verbose != nil {
		w.opt.Verbose("%8.3f "+format, append([]any{w.now.Seconds()}, args...)...)
	}
}

func (w *world) fail(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf("at %v, step %d: %s", w.now, w.stats.Steps, fmt.Sprintf(format, args...))
	}
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// delay of a message: mostly short, sometimes long.
func (w *world) delay() time.Duration {
	d := time.Duration(1+w.rng.IntN(20)) * time.Millisecond
	if !w.calm && w.chance(0.03) {
		w.stats.Faults++
		d *= 100
	}
	return d
}

// newClock sets a clock anew: it starts anywhere, and runs up to 2% fast or
// slow. Leases rest on no more than that.
func (w *world) newClock() (skew, drift time.Duration) {
	return time.Duration(w.rng.IntN(100000)) * time.Millisecond, time.Duration(w.rng.IntN(40)-20) * time.Millisecond
}

func (w *world) clock(skew, drift time.Duration) time.Duration {
	return w.now + skew + w.now/time.Second*drift + w.now%time.Second*drift/time.Second
}

// run handles events until the time is over or a check fails.
func (w *world) run(until time.Duration) {
	for w.failure == nil && w.queue.Len() > 0 && w.queue[0].at <= until {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.stats.Steps++
		e.run()
		w.check.step(w)
	}
	if w.failure == nil {
		w.now = max(w.now, until)
	}
}

func fsid(i int) ondisk.UUID { return ondisk.UUID{0: byte(i + 1)} }

// newBatch makes the next txg of a primary whose head has that content. Where
// disks are small it was admitted against some nodes.
func (p *prim) newBatch(T ondisk.Tid, head *content) (batch any, manifest [32]byte, next *content, bytes int64, against []*node) {
	w := p.w
	if !w.opt.Volumes {
		w.ids++
		binary.LittleEndian.PutUint64(manifest[:], w.ids)
		w.stats.Operations++
		return w.ids, manifest, nil, 1, nil
	}
	var b *chain.Batch
	switch {
	case w.kind.full:
		b, next, against = p.fill(T, head)
	case w.kind.snaps && w.chance(0.25):
		b, next = p.manage(T, head)
	default:
		c := *head
		ops := 1 + w.rng.IntN(w.kind.busy)
		for range ops {
			c.operate(w.rng, head, false)
		}
		w.stats.Operations += ops
		next, b = &c, c.batch(T, head)
	}
	return b, cluster.Manifest(b), next, size(b), against
}

// copyOptions of a resync: mostly so small that it takes many commits.
func (w *world) copyOptions() resync.Options {
	o := resync.Options{Now: func() time.Time { return time.Unix(0, 0).Add(w.now) }}
	if w.chance(0.7) {
		o.DirectBytes, o.DirectChanges, o.StepBytes = 1+w.rng.Int64N(20000), 1+w.rng.IntN(20), 1+w.rng.Int64N(10000)
		o.BatchChanges = 1 + w.rng.IntN(12)
	}
	return o
}

// newKind draws what the seed is about.
func (w *world) newKind() {
	k := &w.kind
	k.calm = w.opt.Seed%10 == 3
	k.deep = w.opt.Volumes && w.opt.Seed%25 == 7
	if w.chance(0.2) {
		k.damage = blocks
	}
	if w.opt.Volumes {
		switch w.opt.Seed % 12 {
		case 1, 7:
			k.full = true
		case 2:
			k.damage = reads
		case 4:
			k.damage = heads
		case 8:
			k.damage = flushes
		}
		k.snaps = w.opt.Seed%3 == 0 || w.opt.Seed/12%2 == 0 && (k.full || k.damage >= heads)
	}
	switch x := w.rng.Float64(); {
	case k.damage != none || x < 0.4:
	case x < 0.8:
		k.change = 0.05
	default:
		k.change = 0.5
	}
	k.busy = 1 + w.rng.IntN(12)
	k.last = time.Duration(1000+w.rng.IntN(3000)) * time.Millisecond
	if k.full {
		k.change = 0
		if k.slots = w.opt.Seed/48%60 == 31; w.opt.Seed/24%2 == 1 {
			k.change = 0.03
		}
		k.busy, k.last = 6+w.rng.IntN(20), 5*time.Second
	}
	if k.deep = k.deep && !k.slots; k.deep {
		k.busy, k.last = 80, 25*time.Second
	}
}

// newWorld makes masters that hold the same first state, and spares.
func newWorld(o Options) *world {
	w := &world{opt: o, rng: rand.New(rand.NewPCG(o.Seed, 0x5eed))}
	w.stats.Copied = make(map[string]int)
	w.check.init()
	masters, spares, prims := 1+w.rng.IntN(5), w.rng.IntN(3), 1+w.rng.IntN(3)
	if masters == 1 || w.chance(0.4) {
		masters = 3 // the most common cluster
	}
	if w.chance(0.05) {
		masters, spares = 1, 0
	}
	if w.chance(0.6) {
		w.lease = 600 * time.Millisecond
	}
	w.newKind()
	if w.lie = newLie(); o.Lies {
		masters, prims = w.liarWorld()
	}
	if w.kind.calm {
		w.calm, prims = true, 1
	} else if w.chance(0.8) {
		w.lossy = w.rng.Float64() * 0.15
	}
	if k := &w.kind; k.damage >= heads {
		masters, prims = max(masters, 3), 1
	} else if masters < 3 {
		k.damage = none
	}
	if w.kind.full {
		masters, w.kind.damage = 3, none
		if prims > 1 && w.chance(0.75) {
			prims = 1
		}
	}
	w.victim = int(o.Seed/12) % masters
	if o.Volumes {
		s := shape{masters: masters, slaves: spares, small: w.chance(0.4)}
		if w.kind.full {
			s.full, s.slots = 1+int(o.Seed/6%2), w.kind.slots
			if s.slots { // these take long to make
				s.full, s.slaves, s.small = 1, 1, false
			}
		}
		w.volumes(s)
	} else {
		w.imagine(masters, spares)
	}
	for i := range prims {
		p := &prim{w: w, index: i, cut: make([]bool, len(w.nodes)), deaf: make([]bool, len(w.nodes)), away: make([]bool, len(w.nodes))}
		w.prims = append(w.prims, p)
	}
	for _, n := range w.nodes {
		n.wait = make([]time.Duration, prims)
		n.open()
	}
	for _, p := range w.prims {
		w.after(time.Duration(w.rng.IntN(300))*time.Millisecond, p.start)
	}
	return w
}

func (w *world) addNode(i int, d core.Durable) *node {
	n := &node{w: w, index: i, id: fsid(i), durable: d}
	w.nodes = append(w.nodes, n)
	return n
}

// imagine makes nodes with imagined disks; spares hold nothing.
func (w *world) imagine(masters, spares int) {
	first := &core.Charter{Config: core.Config{Version: 1}}
	for i := range masters + spares {
		role := ondisk.PFSMaster
		if i >= masters {
			role = ondisk.PFSSlave
			if (i-masters)%2 == 1 {
				role = ondisk.PFSSoftSlave
			}
		}
		first.Config.Members = append(first.Config.Members, core.Member{Fsid: fsid(i), Role: role})
	}
	T := ondisk.MakeTid(1, 0)
	first.Lineage = *first.Lineage.WithEpoch(1, core.Position{})
	pos := core.Position{T: T, H: core.NextH(core.History{}, T, 1, [32]byte{})}
	w.check.first(pos, first)
	for i := range masters + spares {
		d := core.Durable{Pos: pos, Charter: first, Promised: core.Ballot{Epoch: 1}}
		if i >= masters {
			d = core.Durable{}
		}
		n := w.addNode(i, d)
		n.disk = &imagined{n: n, durable: d, cache: d, kept: d}
	}
}

// volumes makes nodes on volumes that were founded together.
func (w *world) volumes(s shape) {
	img := founded(s)
	w.check.first(img.pos, img.law)
	for i, dev := range img.devs {
		n := w.addNode(i, core.Durable{Pos: img.pos, Charter: img.law, Promised: core.Ballot{Epoch: img.pos.T.Epoch()}})
		n.vol = &volume{n: n, platter: newPlatter(dev)}
		if n.damages(flushes) {
			n.vol.platter.lies = mix(w.opt.Seed, 7)
		}
		n.disk = n.vol
	}
}
