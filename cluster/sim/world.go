package sim

import (
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Options say what a run is like.
type Options struct {
	Seed uint64
	Omit core.Rule
	// NoOpenFlush leaves out that a node flushes what it read before it
	// answers.
	NoOpenFlush bool
	Verbose     func(format string, args ...any)
}

// Stats counts what happened in a run.
type Stats struct {
	Steps, Messages, Faults, Elections, Commits, Resyncs, Changes int
}

// A world is one run.
type world struct {
	opt     Options
	rng     *rand.Rand
	now     time.Duration
	seq     uint64
	queue   events
	nodes   []*node
	prims   []*prim
	calm    bool // no more faults
	lease   time.Duration
	lossy   float64
	check   checker
	stats   Stats
	ids     uint64
	failure error
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
		d *= 100
	}
	return d
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

func nodeName(id ondisk.UUID) string { return fmt.Sprintf("n%d", id[0]-1) }

// makeCharter stands for the batch that stores a charter.
func makeCharter(T ondisk.Tid, c *core.Charter) (any, [32]byte, int64) {
	b := fmt.Appendf(nil, "%v %v %d %v %v", T, c.Config.Version, len(c.Lineage.Epochs), c.Config.Members, c.Config.Joint)
	return "charter", sha256.Sum256(b), 1
}

func (w *world) newBatch() (any, [32]byte) {
	w.ids++
	var m [32]byte
	binary.LittleEndian.PutUint64(m[:], w.ids)
	return w.ids, m
}

// newWorld makes masters that hold the same first state, and spares that
// hold nothing.
func newWorld(o Options) *world {
	w := &world{opt: o, rng: rand.New(rand.NewPCG(o.Seed, 0x5eed))}
	w.check.init()
	masters, spares, prims := 1+w.rng.IntN(5), w.rng.IntN(3), 1+w.rng.IntN(3)
	if masters == 1 || w.chance(0.4) {
		masters = 3 // the most common cluster
	}
	if w.chance(0.6) {
		w.lease = 600 * time.Millisecond
	}
	if w.chance(0.8) {
		w.lossy = w.rng.Float64() * 0.15
	}
	first := &core.Charter{Config: core.Config{Version: 1}}
	for i := range masters + spares {
		role := ondisk.PFSMaster
		if i >= masters {
			role = ondisk.PFSSlave
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
		n := &node{w: w, index: i, id: fsid(i), durable: d, cache: d}
		w.nodes = append(w.nodes, n)
		n.open()
	}
	for i := range prims {
		w.prims = append(w.prims, &prim{w: w, index: i, cut: make([]bool, len(w.nodes)), deaf: make([]bool, len(w.nodes))})
		w.after(time.Duration(w.rng.IntN(300))*time.Millisecond, w.prims[i].start)
	}
	return w
}
