package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// Scope says how small the cluster is whose states are all visited.
type Scope struct {
	Masters, Primaries int
	Soft               int       // soft masters beside them, which have no vote
	Campaigns          int       // of each primary
	Proposals          int       // of each primary
	Crashes            int       // of nodes, in all
	Losses             int       // messages lost, in all; others are delivered late
	States             int       // stop after so many; 0 = never
	Until              time.Time // stop then; zero = never
	Least              int       // states that are visited in any case
	Plain              bool      // states that differ in names only are several
	Omit               core.Rule

	outcomes map[uint64]bool // what the disks came to, if somebody asks
}

// A Found counts what an exploration saw.
type Found struct {
	States, Steps, Deepest int
	Committed              int // states in which something new was committed
	Whole                  bool
}

// Explore visits the states that every order of events leads to: messages
// delivered in any order or lost, jobs ending at any time, nodes crashing,
// primaries starting and giving up. The error names the events that led to a
// violation.
func Explore(s Scope) (Found, error) {
	x := &explorer{scope: s, seen: make(map[uint64]struct{}), names: namings(s.Masters, s.Soft, s.Primaries)}
	x.check.init()
	err := x.visit(x.first(), nil)
	x.found.States = len(x.seen)
	x.found.Whole = err == nil && !x.full
	return x.found, err
}

type explorer struct {
	scope Scope
	seen  map[uint64]struct{} // by hash: of 20 million, two are one with a chance of 1 in 100,000
	check checker             // what follows what: the same in every state
	found Found
	full  bool
	names []*naming
	buf   []byte
}

// A state is one point of the exploration; steps make changed copies.
type state struct {
	nodes   []snode
	prims   []sprim
	msgs    []smsg
	top     core.Position   // last committed
	sent    []core.Position // one T, one batch
	crashes int
	losses  int
	focus   process // the next event must be there: see symmetry.go
}

type snode struct {
	core    *core.Node
	disk    core.Durable
	job     *core.Job
	promise uint32 // told
}

type sprim struct {
	core      *core.Primary
	campaigns int
	proposals int
	over      bool // lost its epoch: one that starts over is another campaign
}

// An smsg is on its way between primary p and node n.
type smsg struct {
	p, n     int
	toNode   bool
	msg      *core.Message
	sortable string
}

const (
	exploreWait  = time.Second
	exploreRetry = time.Hour // nothing is sent again: a loss is final
)

func (x *explorer) first() *state {
	law := &core.Charter{Config: core.Config{Version: 1}}
	for i := range x.scope.Masters {
		law.Config.Members = append(law.Config.Members, core.Member{Fsid: fsid(i), Role: ondisk.PFSMaster})
	}
	for i := range x.scope.Soft {
		law.Config.Members = append(law.Config.Members, core.Member{Fsid: fsid(x.scope.Masters + i), Role: ondisk.PFSSoftMaster})
	}
	T := ondisk.MakeTid(1, 0)
	law.Lineage = *law.Lineage.WithEpoch(1, core.Position{})
	pos := core.Position{T: T, H: core.NextH(core.History{}, T, 1, [32]byte{})}
	x.check.first(pos, law)
	st := &state{top: pos}
	d := core.Durable{Pos: pos, Charter: law, Promised: core.Ballot{Epoch: 1}}
	for i := range x.scope.Masters + x.scope.Soft {
		st.nodes = append(st.nodes, snode{core: core.NewNode(0, fsid(i), d, core.NodeOptions{Omit: x.scope.Omit}), disk: d})
	}
	for i := range x.scope.Primaries {
		p := core.NewPrimary(core.PrimaryOptions{Seed: uint64(i + 1), Make: cluster.CharterTxg, Wait: exploreWait,
			Retry: exploreRetry, Window: 1 << 20, Omit: x.scope.Omit})
		for k := range x.scope.Masters + x.scope.Soft {
			p.Step(0, core.Attach{Answer: core.Answer{Node: fsid(k), Pos: pos, Charter: law, Promised: 1}})
		}
		st.prims = append(st.prims, sprim{core: p})
	}
	return st
}

func (s *state) clone() *state {
	c := *s
	c.nodes, c.prims = slices.Clone(s.nodes), slices.Clone(s.prims)
	c.msgs, c.sent = slices.Clone(s.msgs), slices.Clone(s.sent)
	return &c
}

// visit goes on from a state into all that can follow.
func (x *explorer) visit(s *state, path *step) error {
	k := x.key(s)
	if _, ok := x.seen[k]; ok || x.full {
		return nil
	}
	late := !x.scope.Until.IsZero() && len(x.seen)%1000 == 0 && len(x.seen) >= x.scope.Least && time.Now().After(x.scope.Until)
	if late || x.scope.States > 0 && len(x.seen) >= x.scope.States {
		x.full = true
		return nil
	}
	x.seen[k] = struct{}{}
	if x.scope.outcomes != nil {
		x.scope.outcomes[x.outcome(s)] = true
	}
	x.found.Deepest = max(x.found.Deepest, path.depth())
	// The order depends on the state, so that a bounded exploration sees
	// more than variations of one course.
	as := x.actions(s)
	rng := rand.New(rand.NewPCG(k, 1))
	rng.Shuffle(len(as), func(i, j int) { as[i], as[j] = as[j], as[i] })
	for _, a := range as {
		next := s.clone()
		x.found.Steps++
		here := &step{path, a.name}
		r := &runner{x: x, s: next}
		r.do(a)
		if r.err != nil {
			return fmt.Errorf("%w\nafter:\n%s", r.err, here)
		}
		if err := x.visit(next, here); err != nil {
			return err
		}
	}
	return nil
}

// longWalk ends a walk in which a primary waits for ever.
const longWalk = 300

// Walk goes from the start to an end by chance, as often as told.
func Walk(s Scope, seed uint64, walks int) (Found, error) {
	x := &explorer{scope: s, names: namings(s.Masters, s.Soft, s.Primaries)}
	x.check.init()
	rng := rand.New(rand.NewPCG(seed, 1))
	start := x.first()
	for range walks {
		st, path := start.clone(), (*step)(nil)
		for range longWalk {
			as := x.actions(st)
			if len(as) == 0 {
				break
			}
			a := as[rng.IntN(len(as))]
			path = &step{path, a.name}
			r := &runner{x: x, s: st}
			r.do(a)
			x.found.Steps++
			if r.err != nil {
				return x.found, fmt.Errorf("%w\nafter:\n%s", r.err, path)
			}
		}
		x.found.Deepest = max(x.found.Deepest, path.depth())
	}
	return x.found, nil
}

// A step is the last one of a path.
type step struct {
	before *step
	name   string
}

func (p *step) depth() int {
	n := 0
	for ; p != nil; p = p.before {
		n++
	}
	return n
}

func (p *step) String() string {
	var names []string
	for ; p != nil; p = p.before {
		names = append(names, p.name)
	}
	slices.Reverse(names)
	var b bytes.Buffer
	for i, n := range names {
		fmt.Fprintf(&b, "%3d %s\n", i+1, n)
	}
	return b.String()
}
