package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/anvilfs/anvilfs/chain/crashtest"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/fs"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A Run is something to be recorded. It is the same each time, but for what
// goroutines of the pool do side by side.
type Run struct {
	Workload string
	Shape    Shape
	Seed     uint64
	steps    []func(*session) error
	plain    bool // without accounts: with them, nothing goes into the intent log
}

// plain is r with nothing that is counted.
func (r Run) asPlain() Run {
	r.Workload, r.plain = r.Workload+plainly, true
	return r
}

const plainly = "-plain"

// record does it on a new cluster.
func (r Run) record(ctx context.Context) (*crashtest.Recording, *session, error) {
	img, err := r.Shape.build(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("building %s: %w", r.Shape.Name, err)
	}
	s := newSession(ctx, r.Shape, r.Shape.newTap(img, r.Seed), nil, r.Seed)
	s.plain = r.plain
	err = s.start()
	for _, step := range r.steps {
		if err == nil {
			err = step(s)
		}
	}
	if err = errors.Join(err, s.close()); err == nil {
		err = s.tap.Misuse()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("without any cut: %w", err)
	}
	return s.recording(), s, nil
}

// pairsPerRun is how many pairs share a recording: opening costs too.
const pairsPerRun = 8

// syncing says when calls of a pair are made durable.
type syncing int

const (
	fsync   syncing = iota // after each
	syncAll                // after both
	none                   // by a commit that begins somewhere in between
)

// Pairs lists all pairs of calls with each way to make them durable, in an
// order drawn by lot, several to a run.
func Pairs(seed uint64) (runs []Run) {
	var steps []func(*session) error
	for _, a := range calls() {
		for _, b := range calls() {
			for _, how := range []syncing{fsync, syncAll, none} {
				steps = append(steps, func(s *session) error { return s.pair(a, b, how) })
			}
		}
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for n := 0; n < len(steps); n += pairsPerRun {
		shape := Shapes()[[]int{0, 2, 1, 0}[len(runs)%4]]
		runs = append(runs, Run{fmt.Sprintf("pairs-%d", n/pairsPerRun), shape, seed, steps[n:min(n+pairsPerRun, len(steps))], false})
	}
	return runs
}

// pair makes two calls in a directory of its own.
func (s *session) pair(a, b call, how syncing) error {
	s.forget()
	s.base = fmt.Sprintf("w%d", len(s.moments))
	if err := s.call(call{"setup", callSetup}); err != nil {
		return err
	}
	if err := s.sync(); err != nil {
		return err
	}
	if err := s.call(a); err != nil {
		return err
	}
	if how == fsync {
		if err := s.sync(); err != nil {
			return err
		}
	}
	committed := make(chan error, 1)
	if how == none {
		go func() { committed <- s.pool.Sync(s.ctx) }()
	} else {
		committed <- nil
	}
	if err := errors.Join(s.call(b), <-committed); err != nil {
		return fmt.Errorf("%s, then %s: %w", a.name, b.name, err)
	}
	if how == none {
		s.settle()
		s.events() // in the order in which it was, since two groups may have been committed
		return nil
	}
	return s.sync()
}

// callSetup makes the files that calls are about.
func callSetup(s *session, m *model) error {
	if _, err := s.make(m, s.base, fs.NewNode{Type: ondisk.ObjDir, Mode: 0o755}); err != nil {
		return err
	}
	for _, what := range []struct {
		name string
		typ  ondisk.ObjType
		size int
	}{{"a", ondisk.ObjFile, 150_000}, {"b", ondisk.ObjFile, 40}, {"d", ondisk.ObjDir, 0}, {"d/c", ondisk.ObjFile, 70_000}, {"e", ondisk.ObjDir, 0}} {
		inum, err := s.make(m, s.base+"/"+what.name, fs.NewNode{Type: what.typ, Mode: 0o755})
		if err == nil && what.size > 0 {
			err = s.write(m, inum, 0, what.size)
		}
		if err != nil {
			return err
		}
	}
	c, _ := m.find(s.base + "/d/c")
	if err := s.link(m, c, s.base+"/h"); err != nil {
		return err
	}
	if err := callSetAttr(s, m, "a", 20); err != nil {
		return err
	}
	return s.account(m)
}

// Workloads are random calls, and what is done to members meanwhile.
func Workloads(seed uint64) []Run {
	shapes := Shapes()
	alone, four, three, spare, threeFour := shapes[0], shapes[1], shapes[2], shapes[3], shapes[4]
	growing, growingSlots, part, cached, sharing := shapes[5], shapes[6], shapes[7], shapes[8], shapes[9]
	aloneGrowing, twoGrowing, plain, restore := shapes[10], shapes[11], shapes[12], (*session).stepRestore
	twins, dedup, shared := synced(callTwins), (*session).stepDedup, (*session).stepShared
	reread := (*session).stepReread
	calls := (*session).stepCalls
	create, hold, erase, rollback, clone := synced(callSnapshot), synced(callHold), synced(callErase), synced(callRollback), (*session).stepClone
	rollbackOpen := synced(callRollbackOpen)
	return append(loggedWorkloads(seed), []Run{
		{"calls-alone", alone, seed, repeat(8, calls), false},
		{"calls-four-slots", four, seed, repeat(8, calls), false},
		{"calls-three", three, seed, repeat(5, calls), false},
		{"early-data", alone, seed, []func(*session) error{calls, (*session).stepLarge, calls}, false},
		{"bulkfree", alone, seed, []func(*session) error{calls, calls, (*session).stepBulkfree, calls, (*session).stepBulkfree}, false},
		{"unmount", alone, seed, []func(*session) error{calls, (*session).stepReopen, calls, (*session).stepReopen}, false},
		{"resync", three, seed, []func(*session) error{calls, (*session).stepOffline, calls, calls, (*session).stepOnline, calls}, false},
		{"discard", threeFour, seed, []func(*session) error{calls, (*session).stepForeign, calls}, false},
		{"replace", spare, seed, []func(*session) error{calls, (*session).stepReplace, calls}, false},
		{"snapshots", alone, seed, []func(*session) error{calls, create, calls, hold, create, calls, erase, calls, rollback, calls, create, clone, calls}, false},
		{"restore", alone, seed, []func(*session) error{calls, create, calls, restore, calls, restore, erase, (*session).stepBulkfree, calls}, false},
		{"restore-three", three, seed, []func(*session) error{calls, create, calls, restore, erase, calls}, false},
		{"policy", three, seed, []func(*session) error{calls, synced(callPolicy), create, calls, synced(callPolicy)}, false},
		{"dedup", three, seed, []func(*session) error{calls, twins, dedup, shared, calls, twins, create, dedup, calls}, false},
		{"dedup-on-write", sharing, seed, []func(*session) error{calls, twins, shared, calls, (*session).stepBulkfree, twins, calls}, false},
		{"snapshots-three", three, seed, []func(*session) error{calls, create, calls, create, clone, erase, calls, rollbackOpen, calls}, false},
		{"rollback-open", alone, seed, []func(*session) error{calls, create, calls, rollbackOpen, calls, create, calls, rollbackOpen, calls}, false},
		{"rollback-away", three, seed, []func(*session) error{calls, create, calls, (*session).stepOffline, rollbackOpen, calls, (*session).stepOnline, calls}, false},
		{"snapshots-away", three, seed, []func(*session) error{calls, create, (*session).stepOffline, calls, create, erase, calls, (*session).stepOnline, calls, rollback, calls}, false},
		{"trim", alone, seed, []func(*session) error{calls, calls, (*session).stepTrim, calls, (*session).stepTrim, calls}, false},
		{"trim-four-slots", four, seed, []func(*session) error{calls, calls, (*session).stepTrim, calls, calls, (*session).stepTrim, calls}, false},
		{"add-master", spare, seed, []func(*session) error{calls, (*session).stepAddMaster, calls, (*session).stepRemove, calls}, false},
		{"grow", growing, seed, []func(*session) error{calls, stepGrow(1), calls, stepGrow(2)}, false},
		{"grow-alone", aloneGrowing, seed, []func(*session) error{calls, stepGrow(0), calls}, false},
		{"grow-two", twoGrowing, seed, []func(*session) error{calls, stepGrow(1), calls, stepGrow(0), calls}, false},
		{"grow-slots", growingSlots, seed, []func(*session) error{calls, stepGrow(1), calls}, false},
		{"grow-add", part, seed, []func(*session) error{calls, (*session).stepExtend, calls, (*session).stepReopen, calls}, false},
		{"cache", cached, seed, []func(*session) error{calls, reread, calls, (*session).stepCacheAway, reread, calls, (*session).stepReopen, (*session).stepKnows, reread, calls}, false},
		{"convert", plain, seed, []func(*session) error{calls, create, calls, (*session).stepConvert, calls, erase, calls}, false},
		{"roles", spare, seed, []func(*session) error{calls, (*session).stepAddSlave, (*session).stepPromote, calls, (*session).stepDemote, calls}, false},
	}...)
}

// loggedWorkloads have calls acknowledged by intent logs alone just before
// something else is done, in each round.
func loggedWorkloads(seed uint64) []Run {
	shapes := Shapes()
	alone, three, spare, growing := shapes[0], shapes[2], shapes[3], shapes[5]
	calls := (*session).stepCalls
	create, erase, rollback := synced(callSnapshot), synced(callErase), synced(callRollbackOpen)
	return []Run{
		{"log-mounts", three, seed, []func(*session) error{calls, (*session).stepNoLog, calls, (*session).stepLog, calls, (*session).stepNoLog}, true},
		{"log-members", spare, seed, []func(*session) error{calls, (*session).stepAddSlave, calls, (*session).stepPromote, calls, (*session).stepDemote, calls, (*session).stepRemove, calls}, true},
		{"log-replace", spare, seed, []func(*session) error{calls, (*session).stepReplace, calls}, true},
		{"log-snapshots", three, seed, []func(*session) error{calls, create, calls, create, calls, erase, calls, (*session).stepClone, calls, rollback, calls}, true},
		{"log-space", alone, seed, []func(*session) error{calls, synced(callTwins), (*session).stepDedup, calls, (*session).stepBulkfree, calls, (*session).stepTrim, calls}, true},
		{"log-grow", growing, seed, []func(*session) error{calls, stepGrow(1), calls}, true},
	}
}

// stepNoLog mounts without intent logs, whatever they hold.
func (s *session) stepNoLog() error {
	s.noLog = true
	return s.stepReopen()
}

// stepLog mounts with intent logs again.
func (s *session) stepLog() error {
	s.noLog = false
	return s.stepReopen()
}

func repeat(n int, step func(*session) error) (list []func(*session) error) {
	for range n {
		list = append(list, step)
	}
	return list
}

// stepCalls makes a few random calls and syncs.
func (s *session) stepCalls() error {
	if _, ok := s.m.find(s.base); !ok {
		if err := s.call(call{"setup", callSetup}); err != nil {
			return err
		}
	}
	s.forget()
	list := calls()
	for range 1 + s.rnd.IntN(4) {
		if err := s.call(list[s.rnd.IntN(len(list))]); err != nil {
			return err
		}
	}
	return s.sync()
}

// stepLarge writes more than a volume keeps back for its commit.
func (s *session) stepLarge() error {
	for n := range 14 {
		err := s.call(call{"large", func(s *session, m *model) error {
			_, inum, err := s.some(m, "d/c", regular)
			if err != nil {
				return err
			}
			return s.write(m, inum, n<<20+n, 1<<20)
		}})
		if err != nil {
			return err
		}
	}
	return s.sync()
}

func (s *session) stepBulkfree() error { return s.pool.Bulkfree(s.ctx) }

// stepReopen unmounts and mounts again. The moments go on.
func (s *session) stepReopen() error {
	if err := s.close(); err != nil {
		return err
	}
	return s.mountAny()
}

func (s *session) stepOffline() error {
	s.ragged = true
	return s.pool.NodeOffline(s.ctx, "m2")
}

func (s *session) stepOnline() error {
	if err := s.pool.NodeOnline(s.ctx, "m2"); err != nil {
		return err
	}
	return s.mend()
}

// stepForeign lets another system write to a member while nothing is mounted,
// and gives that change up.
func (s *session) stepForeign() error {
	s.ragged = true
	if err := s.close(); err != nil {
		return err
	}
	if err := foreignWrite(s.devs[2]); err != nil {
		return err
	}
	if err := s.mountAny(); err != nil {
		return err
	}
	return s.mend()
}

// foreignWrite writes the next header as somebody does who knows nothing of
// marks.
func foreignWrite(d ondisk.Device) error {
	offs := ondisk.SlotOffsets(uint64(d.Size()))
	var newest *ondisk.VolumeHeader
	next := int64(0)
	block := make([]byte, ondisk.HeaderSize)
	for i, off := range offs {
		if _, err := d.ReadAt(block, off); err != nil {
			return err
		}
		h, err := ondisk.DecodeVolumeHeader(block)
		if err != nil {
			return err
		}
		if newest == nil || h.MirrorTid > newest.MirrorTid {
			newest, next = h, offs[(i+1)%len(offs)]
		}
	}
	newest.MirrorTid++
	newest.Sroot[0].MirrorTid = newest.MirrorTid
	newest.FreemapTid = newest.MirrorTid
	newest.Encode(block)
	if _, err := d.WriteAt(block, next); err != nil {
		return err
	}
	return d.Flush()
}

// stepReplace puts the spare in the place of a member.
func (s *session) stepReplace() error {
	s.ragged = true
	if err := s.pool.NodeOffline(s.ctx, "m2"); err != nil {
		return err
	}
	if err := s.pool.NodeReplace(s.ctx, "m2", s.shape.specs(s.devs)[3], true); err != nil {
		return err
	}
	return s.mend()
}

// mountReplaced mounts what a user would: the old members and the new one, and
// without the one of the two that is none.
func (s *session) mountReplaced() error {
	specs := s.shape.specs(s.devs)
	var errs []error
	for _, list := range [][]cluster.MemberSpec{specs, specs[:3], {specs[0], specs[1], specs[3]}, specs[1:]} {
		err := s.mount(list...)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
