package matrix

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

// A death says what becomes of the process.
type death int

const (
	lives death = iota
	killed
	powerCut
)

// A row is one line of the table of failures.
type row struct {
	name   string
	inject func(r *run) // at the moment, from within a request: it does not wait
	death  death
	small  bool // on volumes that are soon full
	roomy  bool // ... that have several header slots, whatever the seed
	level  bool // what a liar acknowledged must be on the others as well: else nobody can help
	stalls bool // without another master there is no quorum until it is healed

	prepare func(r *run)        // before the cell begins
	between func(r *run)        // after the death, before the next mount
	want    []cluster.NodeState // m is seen in one of them
	remedy  bool                // and the status says what the operator can do
	expect  func(r *run)        // what else must be seen before it is healed
	heal    func(r *run)        // beside taking the rules away
	play    func(r *run)
	skip    func(c cell) string // why a cell makes no sense

	logs   []moment // of the intent log, at which it is played, too
	copied bool     // a resync does copy, beside what m has
	errand *errand  // what is done when the fault comes, which goes by the seed
	deadly bool     // of an errand: the process ends
	branch bool     // in a cluster with a branch that is away
	gives  bool     // ... which is not merged

	fast  bool               // it is about a cache before the members
	cache cluster.CacheState // what becomes of it
	lies  bool               // what it answers is found to be wrong
}

// always or once: a fault that stays until it is healed, or passes.
func (c cell) always() bool { return c.bare || c.dice(5).IntN(2) == 0 }

func (c cell) times() int {
	if c.always() {
		return faultdev.Always
	}
	return 1
}

func rule(do faultdev.Fault, on faultdev.Op, arg int64) func(r *run) {
	return func(r *run) {
		r.ill.Fault().Add(faultdev.Rule{Do: do, On: on, Arg: arg, Times: r.cell.times()})
	}
}

// back waits until m is in sync by itself, if the fault passed by itself.
func back(r *run) {
	if r.cell.always() {
		return
	}
	r.until(r.m.Name+" back by itself", func() bool { return r.status().State == cluster.NodeInSync })
}

// rows lists them in the order of the table.
func rows() []*row {
	return append(memberRows(), fastRows()...)
}

func memberRows() []*row {
	written := []cluster.NodeState{cluster.NodeFailed, cluster.NodeInSync} // if it passes before anyone looks
	return []*row{
		{name: "read error in a data block", inject: rot(ondisk.TypeData, unreadable), expect: noticed, play: script, skip: notWhileBare},
		{name: "read error in a table", inject: rot(ondisk.TypeIndirect, unreadable), expect: noticed, play: script, skip: notWhileBare},
		{name: "bad check code in a data block", inject: rot(ondisk.TypeData, flipped), expect: noticed, play: script, skip: notWhileBare},
		{name: "bad check code in a table", inject: rot(ondisk.TypeIndirect, flipped), expect: noticed, play: script, skip: notWhileBare},
		{name: "a txg meets a table that cannot be read", logs: ofLog[1:2], inject: rot(ondisk.TypeIndirect, unreadable), want: []cluster.NodeState{cluster.NodeTainted}, expect: met, play: script, skip: notWhileCopied},
		{name: "a txg meets a table with a bad check code", logs: ofLog[1:2], inject: rot(ondisk.TypeIndirect, flipped), want: []cluster.NodeState{cluster.NodeTainted}, expect: met, play: script, skip: notWhileCopied},
		{name: "elements out of order under good codes", inject: twist(disorder), expect: noticed, play: script, skip: notWhileBare},
		{name: "an unexpected element under good codes", inject: twist(alien), expect: noticed, play: script, skip: notWhileBare},
		{name: "write error", logs: ofLog, inject: rule(faultdev.Fail, faultdev.Write, 0), want: written, expect: back, stalls: true, play: script},
		{name: "flush error", logs: ofLog, inject: rule(faultdev.Fail, faultdev.Flush, 0), want: written, expect: back, stalls: true, play: script},
		{name: "device out of space", inject: rule(faultdev.Full, faultdev.Write, 0), want: written, expect: back, stalls: true, play: script},
		{name: "no space on the volume", small: true, play: full, skip: roomOnly},
		{name: "disconnect", logs: ofLog, inject: func(r *run) { r.m.Pull() }, want: []cluster.NodeState{cluster.NodeFailed}, stalls: true, play: script,
			heal: func(r *run) { r.m.Plug(nil) }},
		{name: "hung device", logs: ofLog, inject: hang, want: []cluster.NodeState{cluster.NodeHung}, remedy: true, stalls: true, play: script},
		{name: "slow device", inject: slow, play: script, expect: slowness},
		{name: "process crash", logs: ofLog, inject: func(r *run) { r.die(false) }, death: killed, play: script, skip: notWhileBare},
		{name: "power cut", logs: ofLog, inject: func(r *run) { r.die(true) }, death: powerCut, play: script, skip: notWhileBare},
		{name: "power cut after flushes that lied", logs: ofLog[:2], prepare: lie, level: true, inject: func(r *run) { r.die(true) }, death: powerCut, play: script, skip: notWhileBare},
		{name: "power cut after flushes that lied, while another was behind", prepare: lie, inject: func(r *run) { r.die(true) }, death: powerCut, play: script, skip: onlyBare},
		{name: "restored image", prepare: older, inject: swapped(func(r *run) *memdev.Device { return r.before.Clone() }), play: script, skip: notWhileBare},
		{name: "cloned image", inject: swapped(twin), want: []cluster.NodeState{cluster.NodeFailed}, expect: says("copies of one node"), play: script, skip: notWhileBare,
			heal: func(r *run) { r.m.Pull(); r.m.Plug(r.before) }},
		{name: "foreign change", inject: swapped(foreign), want: []cluster.NodeState{cluster.NodeForeign}, remedy: true, expect: says("another system"), play: script, skip: notWhileBare,
			heal: func(r *run) { r.check(r.life.pool.NodeDiscard(r.life.ctx, r.m.Name), "node discard") }},
		{name: "empty device", inject: swapped(blank), want: []cluster.NodeState{cluster.NodeFailed}, expect: untouched, play: script, skip: notWhileBare, heal: replaced},
		{name: "unknown device", inject: swapped(unknown), want: []cluster.NodeState{cluster.NodeFailed}, expect: untouched, play: script, skip: notWhileBare, heal: replaced},
		{name: "second mount", inject: nothing, play: secondMount, skip: notWhileBare},
		{name: "two claims of commitment", inject: func(r *run) { r.die(false) }, death: killed, play: forked, skip: onlyMasters},
		{name: "stale primary", inject: nothing, play: stolen, skip: onlyMasters},
		{name: "clock jump", inject: suspend, play: awake, skip: notPromising},
		mergeRow("a branch is merged and a device fails", false, false),
		mergeRow("a branch is merged and the process ends", true, false),
		mergeRow("a branch is given up and a device fails", false, true),
		mergeRow("a branch is given up and the process ends", true, true),
		rollbackRow("a rollback and a device fails", false),
		rollbackRow("a rollback and the process ends", true),
		{name: "a rollback meets a member without its snapshot", inject: nothing, copied: true, play: lacking, skip: func(c cell) string {
			if c.at != swap {
				return "it lacks the snapshot when its copy is put in place"
			}
			return ""
		}},
		growRow("a member grows and a device fails", false),
		growRow("a member grows and the process ends", true),
		extendRow("a member gets one more device and a device fails", false),
		extendRow("a member gets one more device and the process ends", true),
		discardRow("a change is discarded and a device fails", false),
		discardRow("a change is discarded and the process ends", true),
	}
}

func nothing(*run) {}

func onlyMasters(c cell) string {
	if c.member >= masters {
		return "a slave makes no quorum"
	}
	return notWhileBare(c)
}

func notPromising(c cell) string {
	if c.at == promise {
		return "a mount whose members do not answer for ten minutes is refused, as when they hang"
	}
	return notWhileBare(c)
}

func onlyBare(c cell) string {
	if !c.bare {
		return "what happens with another master away shows it more clearly"
	}
	return ""
}

func notWhileBare(c cell) string {
	if c.bare {
		return "the fault takes no vote away that the other cells do not"
	}
	return ""
}

func hang(r *run) {
	r.ill.Fault().Add(faultdev.Rule{Do: faultdev.Hang, Times: faultdev.Always})
}

// slow makes each write take a tenth of the deadline.
func slow(r *run) {
	if r.cell.bare {
		r.limit = 10 * time.Minute // nobody else is there: calls are as slow as it
	}
	r.m.Fault().Add(faultdev.Rule{Do: faultdev.Delay, On: faultdev.Write, Arg: int64(deadline / 10), Times: faultdev.Always})
}

// slowness: what is slow is not waited for, and it does not lose its place.
func slowness(r *run) {
	for range 4 {
		r.work(2)
		<-time.After(3 * time.Second)
	}
	switch st := r.status(); st.State {
	case cluster.NodeInSync, cluster.NodeBehind, cluster.NodeResync:
	default:
		r.fail("a slow member is %s: %s", st.State, st.Error)
	}
}

// A spoiler makes a block of the member unreadable.
type spoiler func(r *run, ref *ondisk.Blockref)

func unreadable(r *run, ref *ondisk.Blockref) {
	r.m.Fault().Add(faultdev.Rule{Do: faultdev.Fail, On: faultdev.Read, Beg: int64(ref.Off()), End: int64(ref.Off()) + int64(ref.Size()), Times: faultdev.Always})
}

func flipped(r *run, ref *ondisk.Blockref) {
	r.m.Scribble(int64(ref.Off())+int64(r.rng.IntN(ref.Size()/2)), []byte("rot"))
}

func rot(kind ondisk.BlockType, spoil spoiler) func(r *run) {
	return func(r *run) {
		b, err := victim(r, r.m.Copy(), kind)
		if err != nil {
			r.t.Errorf("%v: %v", r.cell, err)
			return
		}
		r.note("damage at %v", &b.Ref)
		r.damaged = b.Ref
		spoil(r, &b.Ref)
	}
}

// victim is a block of a file that no call touches.
func victim(r *run, dev *memdev.Device, kind ondisk.BlockType) (rig.Block, error) {
	all, err := rig.Blocks(dev)
	if err != nil {
		return rig.Block{}, err
	}
	var fit []rig.Block
	for _, b := range all {
		for _, inum := range r.base.keep {
			if b.Ref.Type == kind && b.Inum() == inum {
				fit = append(fit, b)
			}
		}
	}
	if len(fit) == 0 {
		return rig.Block{}, fmt.Errorf("no %v block among %d", kind, len(all))
	}
	return fit[r.cell.dice(6).IntN(len(fit))], nil
}

// twist edits a table while the device is away, so that all codes are good.
func twist(change func(rng *rand.Rand, block []byte)) func(r *run) {
	return swapped(func(r *run) *memdev.Device {
		dev := r.m.Copy()
		b, err := victim(r, dev, ondisk.TypeIndirect)
		if err == nil {
			err = rig.Edit(dev, b, func(block []byte) { change(r.cell.dice(7), block) })
		}
		if err != nil {
			r.t.Errorf("%v: %v", r.cell, err)
		}
		return dev
	})
}

const elementSize = ondisk.BlockrefSize

func disorder(_ *rand.Rand, block []byte) {
	var first [elementSize]byte
	copy(first[:], block)
	copy(block, block[elementSize:2*elementSize])
	copy(block[elementSize:], first[:])
}

func alien(_ *rand.Rand, block []byte) {
	ref, err := ondisk.DecodeBlockref(block)
	if err != nil {
		panic(err)
	}
	ref.Type = ondisk.TypeInode
	block[0] = byte(ref.Type)
}

// noticed reads until the damage was seen, and waits until it is mended. To
// be read from m, others answer late.
func noticed(r *run) {
	r.healthy()
	if r.outrun() {
		return
	}
	limit := r.limit
	r.limit = time.Minute
	for _, o := range r.w.Members {
		if o != r.m {
			o.Fault().Add(faultdev.Rule{Do: faultdev.Delay, On: faultdev.Read, Arg: int64(20 * time.Second), Times: faultdev.Always})
		}
	}
	for range 3 {
		r.reads()
		<-time.After(30 * time.Second)
	}
	for _, o := range r.w.Members {
		if o != r.m {
			o.Fault().Clear()
		}
	}
	r.limit = limit
	if st := r.status(); st.Bad == 0 {
		r.fail("nobody noticed: %+v", st)
	}
	r.healthy()
}

// lie lets m forget what it was told to keep.
func lie(r *run) {
	r.m.Lie()
}

// older mounts once, so that m has a state to go back to.
func older(r *run) {
	for range 2 {
		r.check(r.open(), "mounting")
		r.work(3)
		r.healthy()
		r.check(r.close(), "unmounting")
	}
	r.note("an image of %s is kept", r.m.Name)
	image := r.before
	r.check(r.open(), "mounting")
	r.work(3)
	r.healthy()
	r.check(r.close(), "unmounting")
	r.before = image
}

// swapped takes the device away and puts another in its place.
func swapped(other func(r *run) *memdev.Device) func(r *run) {
	return func(r *run) {
		r.m.Pull()
		r.m.Plug(other(r))
	}
}

func twin(r *run) *memdev.Device {
	r.before = r.m.Copy()
	return r.w.Members[(r.cell.member+1)%masters].Copy()
}

func foreign(r *run) *memdev.Device {
	dev := r.m.Copy()
	if err := rig.ChangeAsOthersDo(context.Background(), dev); err != nil {
		r.t.Errorf("%v: %v", r.cell, err)
	}
	return dev
}

func blank(r *run) *memdev.Device { return memdev.New(r.m.Copy().Size()) }

// unknown holds something, but no filesystem that we know.
func unknown(r *run) *memdev.Device {
	dev := memdev.New(r.m.Copy().Size())
	for off := int64(0); off < 1<<20; off += 64 << 10 {
		if _, err := dev.WriteAt([]byte(content(r.cell.dice(8), 64<<10)), off); err != nil {
			panic(err)
		}
	}
	return dev
}

// says demands a word in the reason of m's state.
func says(word string) func(r *run) {
	return func(r *run) {
		r.until(fmt.Sprintf("%q in the status", word), func() bool { return strings.Contains(r.status().Error, word) })
	}
}

// untouched: a device that is not ours is left alone.
func untouched(r *run) {
	<-time.After(2 * time.Minute) // several attempts to open it
	if n := r.m.Writes(); n > 0 {
		r.fail("%d writes to a device that is not ours", n)
	}
}

// replaced does what an operator would: the new device takes the old one's
// place, under its own name.
func replaced(r *run) {
	if r.row().name == "unknown device" {
		if err := r.life.pool.NodeReplace(r.life.ctx, r.m.Name, r.m.Spec(), false); err == nil || r.m.Writes() > 0 {
			r.fail("a device with content was overwritten unasked: %v, %d writes", err, r.m.Writes())
		}
	}
	err := r.life.pool.NodeReplace(r.life.ctx, r.m.Name, r.m.Spec(), r.row().name == "unknown device")
	r.check(err, "node replace")
	r.until("the replacement in the old one's place", func() bool {
		st := r.life.pool.Status()
		return st.Health == cluster.PoolHealthy && len(st.Nodes) == nodes
	})
}

// mustName demands that a text for the operator names m.
func (r *run) mustName(text string) {
	r.t.Helper()
	if !strings.Contains(text, r.m.Name) {
		r.fail("%s is not named: %s", r.m.Name, text)
	}
}
