package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/chain/fsck"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/crashdev"
	"github.com/anvilfs/anvilfs/sync/scrub"
	"github.com/anvilfs/anvilfs/tests/bar"
)

// A walk does what calls and operators do in an order drawn by lot, for long, and
// loses power now and then: what each of them does alone is tested elsewhere, and
// pairs of calls above.
var (
	walkSeed  = flag.Uint64("walk", 0, "walk with that seed only, and say each step")
	walkSteps = flag.Int("steps", 60, "of each walk")
)

var (
	goalWalks = bar.Goal{What: "steps of random walks over calls and operations", Quick: 120, Test: 1500, Nightly: 200_000}
	goalCuts  = bar.Goal{What: "power cuts in them, of all members or of some", Quick: 1, Test: 60, Nightly: 8000}

	goalChanges  = bar.Goal{What: "of these while the members are changed", Quick: 0, Test: 15, Nightly: 2000}
	goalOpenings = bar.Goal{What: "of these while a pool is opened or closed", Quick: 0, Test: 30, Nightly: 4000}
)

func TestWalk(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	began := time.Now()
	done, cuts, changes, openings, kinds, cutIn := 0, 0, 0, 0, make(map[string]int), make(map[string]int)
	// What is drawn by lot comes too seldom now and then: then there is another walk.
	missing := func() bool {
		return bar.Of(t) > bar.Quick && slices.ContainsFunc(walkMoves(), func(m walkMove) bool { return kinds[m.name] == 0 })
	}
	seldom := func() bool {
		return changes < goalChanges.N(t) || openings < goalOpenings.N(t) || missing()
	}
	over := func() bool {
		return goalWalks.Over(t, began, done) && goalCuts.Over(t, began, cuts) &&
			goalChanges.Over(t, began, changes) && goalOpenings.Over(t, began, openings) && !missing()
	}
	for n := uint64(1); (done < goalWalks.N(t) || done < 3*goalWalks.N(t) && seldom()) && !t.Failed(); n++ {
		if over() {
			break
		}
		seed := *seed + n - 1
		if *walkSeed != 0 {
			seed = *walkSeed
		}
		w := newWalker(t, seed)
		if err := w.run(*walkSteps); err != nil {
			t.Errorf("%v\nafter %s\nreplay: go test ./tests/crash -run TestWalk -walk %d -steps %d", err, strings.Join(w.done, ", "), seed, *walkSteps)
		}
		done, cuts, changes, openings = done+len(w.done), cuts+w.cuts, changes+w.changes, openings+w.openings
		for name, n := range w.cutIn {
			cutIn[name] += n
		}
		for _, s := range w.done {
			name, _, _ := strings.Cut(s, " ")
			kinds[name]++
		}
		if *walkSeed != 0 {
			return
		}
	}
	for _, s := range walkMoves() {
		if t.Logf("%6d %s, %d cut", kinds[s.name], s.name, cutIn[s.name]); kinds[s.name] == 0 && bar.Of(t) > bar.Quick {
			t.Errorf("%s was never done", s.name)
		}
	}
	goalWalks.Check(t, done)
	goalCuts.Check(t, cuts)
	goalChanges.Check(t, changes)
	goalOpenings.Check(t, openings)
}

// A walker is a session with what it knows of its members.
type walker struct {
	*session
	t        *testing.T
	media    []ondisk.Device
	power    []*volatile // the same devices
	gates    []*gate
	roles    map[int]string // of the devices that are members
	next     map[int]string // what is being made of that; nil = they are not being changed
	away     int            // the member that is offline; -1 = none
	absent   bool           // and it was not given to the mount
	clones   int
	cuts     int
	changes  int            // of them while members are changed
	openings int            // of them while a pool is opened or closed
	cutIn    map[string]int // moves in which all lost power
	done     []string

	large    int       // files of many blocks
	cacheOn  bool      // the cache is used
	branch   int       // the soft master that was changed alone; -1 = none
	returned bool      // a branch was merged
	brought  []brought // what the branch has
}

func newWalker(t *testing.T, seed uint64) *walker {
	shape := walkShape()
	img, err := shape.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := &walker{t: t, roles: map[int]string{0: "master", 1: "master", 2: "master"}, away: -1, branch: -1, cutIn: make(map[string]int)}
	live := crashdev.Split(img.Clone(), shape.sizes()...)
	for i, d := range crashdev.Split(img, shape.sizes()...) {
		v := &volatile{Device: live[i], media: d}
		w.power, w.media = append(w.power, v), append(w.media, v)
	}
	w.session = newSession(t.Context(), shape, nil, nil, seed)
	w.ragged, w.plain = true, seed%2 == 1
	w.connect()
	return w
}

// connect gives the devices to a new process.
func (w *walker) connect() {
	w.gates, w.devs = nil, nil
	for _, d := range w.media {
		g := &gate{Device: d}
		w.gates, w.devs = append(w.gates, g), append(w.devs, g)
	}
}

// A walkMove is one thing that may be done. may says whether it makes sense now.
type walkMove struct {
	name   string
	weight int
	may    func(*walker) bool
	do     func(*walker) error
}

func walkMoves() []walkMove {
	always := func(*walker) bool { return true }
	whole := func(w *walker) bool { return w.away < 0 }
	call := func(do func(*session, *model) error) func(*walker) error {
		return func(w *walker) error { return synced(do)(w.session) }
	}
	return append(moreMoves(), []walkMove{
		{"calls", 30, always, func(w *walker) error { return w.stepCalls() }},
		{"elsewhere", 3, always, (*walker).elsewhere},
		{"snapshot", 5, func(w *walker) bool { return len(w.m.snaps) < 4 }, call(callSnapshot)},
		{"hold", 1, always, call(callHold)},
		{"erase", 4, always, call(callErase)},
		{"rollback", 2, func(w *walker) bool { return whole(w) && w.branch < 0 }, call(callRollback)},
		{"clone", 2, func(w *walker) bool { return whole(w) && w.branch < 0 && w.clones == 0 && len(w.m.snaps) > 0 }, (*walker).clone},
		{"bulkfree", 2, always, func(w *walker) error { return w.stepBulkfree() }},
		{"trim", 1, always, func(w *walker) error { return w.stepTrim() }},
		{"dedup", 3, always, (*walker).dedup},
		{"restore", 3, func(w *walker) bool { return len(w.m.snaps) > 0 }, call(callRestore)},
		{"scrub", 2, whole, (*walker).scrub},
		{"offline", 4, whole, (*walker).goOffline},
		{"online", 8, func(w *walker) bool { return w.away >= 0 && !w.absent }, (*walker).comeBack},
		{"fail", 2, whole, (*walker).failOne},
		{"reopen", 3, always, func(w *walker) error { return w.reopen(false) }},
		{"reopen-without-one", 2, whole, func(w *walker) error { return w.reopen(true) }},
		{"power-cut", 6, always, (*walker).powerCut},
		{"power-cut-some", 3, whole, (*walker).powerCutSome},
		{"kill", 3, func(w *walker) bool { _, ok := w.m.find(w.base); return ok }, (*walker).kill},
		{"add-slave", 2, (*walker).spares, func(w *walker) error { return w.addOne(ondisk.PFSSlave, "slave") }},
		{"add-master", 2, (*walker).spares, func(w *walker) error { return w.addOne(ondisk.PFSMaster, "master") }},
		{"promote", 6, func(w *walker) bool { return whole(w) && w.count("slave") > 0 }, func(w *walker) error { return w.turn("slave", ondisk.PFSMaster, "master") }},
		{"demote", 6, func(w *walker) bool { return whole(w) && w.count("master") > 3 }, func(w *walker) error { return w.turn("master", ondisk.PFSSlave, "slave") }},
		{"remove", 3, func(w *walker) bool { return whole(w) && len(w.roles) > 3 && w.branch < 0 }, (*walker).removeOne},
		{"replace", 2, (*walker).spares, (*walker).replaceOne},
		{"check", 3, always, (*walker).check},
	}...)
}

func (w *walker) spares() bool { return w.away < 0 && len(w.roles) == 3 }

func (w *walker) count(role string) (n int) {
	for _, r := range w.roles {
		if r == role {
			n++
		}
	}
	return n
}

// one is a member of that role, by lot.
func (w *walker) one(role string) int {
	var list []int
	for _, i := range slices.Sorted(maps.Keys(w.roles)) {
		if w.roles[i] == role {
			list = append(list, i)
		}
	}
	return list[w.rnd.IntN(len(list))]
}

// spare is a device that is no member.
func (w *walker) spare() int {
	for i := range w.devs {
		if w.roles[i] == "" && i != w.shape.cache() {
			return i
		}
	}
	panic("no device is spare")
}

func name(i int) string { return fmt.Sprintf("m%d", i) }

func (w *walker) run(steps int) (err error) {
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.start(); err != nil {
		return err
	}
	moves := walkMoves()
	for len(w.done) < steps-1 {
		move := draw(w.rnd, moves)
		if !move.may(w) {
			continue
		}
		if err := w.move(move); err != nil {
			return err
		}
	}
	return w.move(moves[len(moves)-1])
}

func draw(rnd *rand.Rand, moves []walkMove) walkMove {
	sum := 0
	for _, m := range moves {
		sum += m.weight
	}
	n := rnd.IntN(sum)
	for _, m := range moves {
		if n -= m.weight; n < 0 {
			return m
		}
	}
	panic("weights do not add up")
}

func (w *walker) move(m walkMove) error {
	w.done = append(w.done, m.name)
	if *walkSeed != 0 {
		w.t.Logf("%d: %s, %v, away %d", len(w.done), m.name, w.roles, w.away)
	}
	if err := m.do(w); err != nil {
		return fmt.Errorf("step %d, %s: %w", len(w.done), m.name, err)
	}
	w.synced = len(w.moments)
	return nil
}

// elsewhere has the calls go on in another directory.
func (w *walker) elsewhere() error {
	w.forget()
	w.base = fmt.Sprintf("w%d", len(w.moments))
	return w.stepCalls()
}

func (w *walker) clone() error {
	w.clones++
	return w.stepClone()
}

func (w *walker) dedup() error {
	if w.rnd.IntN(2) == 0 {
		if err := synced(callTwins)(w.session); err != nil {
			return err
		}
	}
	return w.stepDedup()
}

// scrub finds nothing.
func (w *walker) scrub() error {
	if err := w.mend(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(w.ctx, 4*patience)
	defer cancel()
	var found []string
	m := scrub.NewManager(w.pool, scrub.Options{Found: func(d cluster.Damage, path string, err error) {
		found = append(found, fmt.Sprintf("%+v %s: %v", d, path, err))
	}})
	if err := m.Start(0); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.Run(ctx)
	}()
	rep := m.Report()
	for ; rep.Ended.IsZero() && ctx.Err() == nil; rep = m.Report() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
	if rep.Phase != scrub.Done || rep.Bad+rep.Differing+rep.Unrepaired > 0 || rep.Blocks == 0 {
		return fmt.Errorf("%+v; %v; %s", rep, found, w.describe())
	}
	return nil
}

func (w *walker) goOffline() error {
	if err := w.mend(); err != nil { // who was slow may be behind
		return err
	}
	w.away = w.one("master")
	return w.pool.NodeOffline(w.ctx, name(w.away))
}

func (w *walker) comeBack() error {
	if err := w.pool.NodeOnline(w.ctx, name(w.away)); err != nil {
		return err
	}
	w.away = -1
	if w.rnd.IntN(2) == 0 {
		return w.mendNodes() // the snapshots that it lacks come later
	}
	return w.mend()
}

// failOne has a device fail while calls are made, and come back.
func (w *walker) failOne() error {
	if err := w.mend(); err != nil {
		return err
	}
	g := w.gates[w.one("master")]
	g.shut.Store(true)
	err := w.stepCalls()
	g.shut.Store(false)
	if err != nil {
		return err
	}
	for _, n := range w.pool.Status().Nodes {
		if n.State == cluster.NodeFailed {
			if err := w.pool.NodeOnline(w.ctx, n.Name); err != nil {
				return err
			}
		}
	}
	return w.mend()
}

// given are the members that a user names.
func (w *walker) given() (list []cluster.MemberSpec) {
	specs := w.shape.specs(w.devs)
	for i := range w.media {
		if w.roles[i]+w.next[i] != "" && i != w.branch && (!w.absent || i != w.away) {
			list = append(list, specs[i])
		}
	}
	if w.cacheOn {
		list = append(list, specs[w.shape.cache()])
	}
	return list
}

// reopen unmounts and mounts, without one master if that is wanted.
func (w *walker) reopen(less bool) error {
	if err := w.close(); err != nil {
		return err
	}
	w.away, w.absent = -1, false
	if less {
		w.away, w.absent = w.one("master"), true
	}
	if err := w.mount(w.given()...); err != nil {
		return err
	}
	if !less {
		if err := w.mend(); err != nil {
			return err
		}
	}
	return w.same(w.moments[len(w.moments)-1:])
}

// same demands that what is there is one of those, and goes on from it.
func (w *walker) same(list []moment) error {
	d, err := w.dump()
	if err != nil {
		return err
	}
	diff := ""
	for i := len(list) - 1; i >= 0; i-- {
		if diff = list[i].differs(d); diff == "" {
			list[i].dump = d
			w.moments = append(w.moments[:0:0], w.moments[:len(w.moments)-len(list)+i+1]...)
			w.m = list[i].m
			return nil
		}
	}
	return fmt.Errorf("none of the %d states that it may have; the first: %s", len(list), diff)
}

// differs says how what is there is not what it was at that moment. Of a call
// that did not return only the model tells.
func (m *moment) differs(d *dump) string {
	if m.dump == nil {
		return differ(m.m.lines(), d.short)
	}
	return differ(m.dump.full, d.full)
}

// kill ends the process while a sync may be under way: calls that were not
// synced may be lost, in order.
func (w *walker) kill() error {
	acked := len(w.moments)
	list := calls()
	for range w.rnd.IntN(4) {
		if err := w.call(list[w.rnd.IntN(len(list))]); err != nil {
			return err
		}
	}
	committed := make(chan error, 1)
	go func() { committed <- w.pool.Sync(w.ctx) }()
	if w.rnd.IntN(2) == 0 {
		time.Sleep(time.Duration(w.rnd.IntN(2000)) * time.Microsecond)
	}
	for _, g := range w.gates {
		g.shut.Store(true)
	}
	for _, g := range w.gates {
		g.drain()
	}
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	_ = w.f.Close(ctx) // it is dead: an error is all that can come
	_ = w.pool.Close(ctx)
	if <-committed == nil {
		acked = len(w.moments)
	}
	w.pool, w.open = nil, nil
	w.connect()
	w.away, w.absent = -1, false
	if err := w.mount(w.given()...); err != nil {
		return err
	}
	if err := w.same(w.moments[acked-1:]); err != nil {
		return err
	}
	return w.mend()
}

// check closes all and looks at each member: fsck has nothing to say, and all
// are at one position.
func (w *walker) check() error {
	if err := w.reopen(false); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	var level [][]ondisk.Device
	for _, i := range slices.Sorted(maps.Keys(w.roles)) {
		if i == w.branch {
			continue
		}
		r, err := fsck.Check(w.ctx, w.devs[i:i+1], fsck.Options{AllSlots: true, Workers: 1})
		if err != nil {
			return fmt.Errorf("fsck of %s: %w", name(i), err)
		}
		for _, f := range r.Findings {
			if f.Severity > fsck.Info {
				return fmt.Errorf("fsck of %s: %d errors, %d warnings, the first %v", name(i), r.Errors, r.Warnings, f)
			}
		}
		level = append(level, w.devs[i:i+1])
	}
	list, err := positions(w.ctx, level)
	if err != nil {
		return err
	}
	for _, pos := range list {
		if pos != list[0] {
			return fmt.Errorf("members are at %v", list)
		}
	}
	return w.reopen(false)
}
