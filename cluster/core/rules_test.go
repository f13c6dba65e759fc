package core

import (
	"errors"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

func id(i int) ondisk.UUID { return ondisk.UUID{0: byte(i + 1)} }

func at(epoch, seq uint32) Position { return Position{T: ondisk.MakeTid(epoch, seq)} }

// charterOf has n masters, then slaves.
func charterOf(masters, slaves int) *Charter {
	c := &Charter{Config: Config{Version: 1}, Lineage: *(*Lineage)(nil).WithEpoch(1, Position{})}
	for i := range masters + slaves {
		role := ondisk.PFSMaster
		if i >= masters {
			role = ondisk.PFSSlave
		}
		c.Config.Members = append(c.Config.Members, Member{Fsid: id(i), Role: role})
	}
	return c
}

func testNode(now time.Duration, promised uint32, o NodeOptions) *Node {
	return NewNode(now, id(0), Durable{Promised: Ballot{Epoch: promised, Cand: 1}, Pos: at(1, 0), Charter: charterOf(3, 0)}, o)
}

// said is the message a node sends for one it gets; a job it starts for that
// ends well.
func said(t *testing.T, n *Node, now time.Duration, m *Message) *Message {
	t.Helper()
	for _, e := range n.Step(now, Recv{Msg: m}) {
		switch e := e.(type) {
		case Send:
			return e.Msg
		case Start:
			for _, e := range n.Step(now, Done{OK}) {
				if s, ok := e.(Send); ok {
					return s.Msg
				}
			}
		}
	}
	t.Fatalf("no answer to %v", m.Kind)
	return nil
}

func TestNodePromises(t *testing.T) {
	for _, c := range []struct {
		what  string
		to    Ballot
		want  Kind
		after uint32
	}{
		{"a higher epoch", Ballot{4, 7}, Promised, 4},
		{"the same, to the same", Ballot{3, 1}, Promised, 3},
		{"the same, to another", Ballot{3, 2}, Refused, 3},
		{"a lower epoch", Ballot{2, 1}, Refused, 3},
		{"one that is far ahead", Ballot{3 + 1<<16 + 1, 1}, Refused, 3},
		{"one that is nearly so", Ballot{3 + 1<<16, 1}, Promised, 3 + 1<<16},
	} {
		n := testNode(0, 3, NodeOptions{})
		m := said(t, n, 0, &Message{Kind: Promise, Ballot: c.to})
		if m.Kind != c.want || n.State().Promised.Epoch != c.after {
			t.Errorf("%s: %v, promised is %v", c.what, m.Kind, n.State().Promised)
		}
	}
}

// A promise waits for the lease of another, and after a restart for one that
// may have been granted before it.
func TestNodeLease(t *testing.T) {
	const lease = time.Second
	n := testNode(0, 3, NodeOptions{Lease: lease})
	if m := said(t, n, lease/2, &Message{Kind: Promise, Ballot: Ballot{4, 2}}); m.Kind != Refused {
		t.Errorf("promised half a lease after the start: %v", m.Kind)
	}
	if m := said(t, n, 2*lease, &Message{Kind: Beat, Ballot: Ballot{3, 1}, Lease: lease}); m.Kind != BeatAck {
		t.Fatal(m.Kind)
	}
	if m := said(t, n, 2*lease+lease/2, &Message{Kind: Promise, Ballot: Ballot{4, 2}}); m.Kind != Refused || m.Wait != lease/2 {
		t.Errorf("promised under the lease of another: %v, wait %v", m.Kind, m.Wait)
	}
	if m := said(t, n, 2*lease+lease/2, &Message{Kind: Promise, Ballot: Ballot{4, 1}}); m.Kind != Refused {
		t.Errorf("a lease is of an epoch, not of a candidate: %v", m.Kind)
	}
	if m := said(t, n, 3*lease, &Message{Kind: Promise, Ballot: Ballot{4, 2}}); m.Kind != Promised {
		t.Errorf("not promised when the lease was over: %v", m.Kind)
	}
}

// A stage plays a primary and its nodes; messages wait in it.
type stage struct {
	t     *testing.T
	p     *Primary
	nodes []*Node
	queue []*Message // of the primary
	out   []Effect   // other effects of the primary
}

func newStage(t *testing.T, law *Charter, o PrimaryOptions) *stage {
	o.Make = func(ondisk.Tid, *Charter) (any, [32]byte, int64) { return "charter", [32]byte{1}, 1 }
	o.Window = 100
	s := &stage{t: t, p: NewPrimary(o)}
	for i := range law.Config.Members {
		n := NewNode(0, id(i), Durable{Promised: Ballot{Epoch: 1}, Pos: at(1, 0), Charter: law}, NodeOptions{})
		s.nodes = append(s.nodes, n)
		s.prim(0, Attach{*n.answer()})
	}
	return s
}

func (s *stage) prim(now time.Duration, ev Event) {
	for _, e := range s.p.Step(now, ev) {
		if m, ok := e.(Send); ok {
			s.queue = append(s.queue, m.Msg)
			continue
		}
		s.out = append(s.out, e)
	}
}

// settle delivers all that is on its way.
func (s *stage) settle(now time.Duration) {
	for len(s.queue) > 0 {
		m := s.queue[0]
		s.queue = s.queue[1:]
		s.prim(now, Recv{Msg: said(s.t, s.nodes[m.Node[0]-1], now, m)})
	}
}

func (s *stage) serve() {
	s.t.Helper()
	s.prim(0, Campaign{})
	s.settle(0)
	if s.p.Phase() != Serving {
		s.t.Fatalf("it is in %v", s.p.Phase())
	}
}

// The barrier's charter says what the epoch was built on: otherwise nobody
// could tell an old tail from history.
func TestBarrierIsInTheLineage(t *testing.T) {
	s := newStage(t, charterOf(3, 0), PrimaryOptions{})
	s.serve()
	marks := s.p.Charter().Lineage.Epochs
	if m := marks[len(marks)-1]; m.Epoch != s.p.Ballot().Epoch || m.On != at(1, 0) {
		t.Errorf("epoch %d on %v; the ballot is %v", m.Epoch, m.On, s.p.Ballot())
	}
}

// A slave gets a txg when a quorum of masters has it, not before (I22).
func TestSlavesWaitForTheQuorum(t *testing.T) {
	s := newStage(t, charterOf(3, 1), PrimaryOptions{})
	s.serve()
	s.prim(0, Propose{Batch: "b", Size: 1})
	var to []byte
	for _, m := range s.queue {
		to = append(to, m.Node[0]-1)
	}
	if string(to) != "\x00\x01\x02" {
		t.Fatalf("a new txg goes to %v", to)
	}
	s.settle(0)
	if pos := s.nodes[3].State().Pos; pos != s.p.Committed() {
		t.Errorf("the slave is at %v, committed is %v", pos, s.p.Committed())
	}
}

// Leases count from when they were asked for, less a tenth, and need a quorum.
func TestPrimaryLease(t *testing.T) {
	const lease = time.Second
	s := newStage(t, charterOf(3, 0), PrimaryOptions{Lease: lease, Retry: time.Minute})
	s.serve()
	s.prim(lease, Tick{})
	sent := s.queue
	if len(sent) != 3 || sent[0].Kind != Beat {
		t.Fatalf("%d messages", len(sent))
	}
	answer := func(i int, now time.Duration) {
		m := *sent[i]
		m.Kind = BeatAck
		s.prim(now, Recv{Msg: &m})
	}
	answer(0, lease+lease/2)
	if s.p.MayServe(lease + lease/2) {
		t.Error("serves on the lease of one of three")
	}
	answer(1, lease+lease/2)
	for after, want := range map[time.Duration]bool{lease / 2: true, lease * 8 / 10: true, lease * 95 / 100: false, lease * 12 / 10: false} {
		if got := s.p.MayServe(lease + after); got != want {
			t.Errorf("%v after asking: %v", after, got)
		}
	}
}

// While members change, both sets are counted.
func TestBothSetsAreCounted(t *testing.T) {
	c := Config{Members: charterOf(3, 0).Config.Members, Joint: []Member{
		{Fsid: id(0), Role: ondisk.PFSMaster}, {Fsid: id(3), Role: ondisk.PFSMaster}, {Fsid: id(4), Role: ondisk.PFSMaster}}}
	for _, l := range []struct {
		have string
		want bool
	}{{"\x00\x01", false}, {"\x00\x01\x02", false}, {"\x00\x03\x04", false}, {"\x00\x01\x03", true}, {"\x01\x02\x03\x04", true}} {
		got := c.HasQuorum(func(u ondisk.UUID) bool {
			for i := range len(l.have) {
				if id(int(l.have[i])) == u {
					return true
				}
			}
			return false
		})
		if got != l.want {
			t.Errorf("%v: %v", []byte(l.have), got)
		}
	}
}

// The history of a state covers content, number, configuration and past.
func TestHistory(t *testing.T) {
	one := [32]byte{1}
	h := NextH(History{}, 5, 1, one)
	for what, other := range map[string]History{
		"past": NextH(History{1}, 5, 1, one), "number": NextH(History{}, 6, 1, one),
		"configuration": NextH(History{}, 5, 2, one), "content": NextH(History{}, 5, 1, [32]byte{31: 1}),
	} {
		if other == h {
			t.Errorf("%s does not count", what)
		}
	}
}

// One vote per fsid, none for who was made anew.
func TestClean(t *testing.T) {
	law := charterOf(3, 0)
	law.Config.Members[1].Incarnation = ondisk.UUID{1}
	a := func(i int, in byte) Answer {
		return Answer{Node: id(i), Pos: at(1, 0), Charter: law, Incarnation: ondisk.UUID{in}}
	}
	if c := Clean([]Answer{a(0, 0), a(1, 1), a(0, 0)}); len(c) != 2 {
		t.Errorf("%d votes of two nodes", len(c))
	}
	if c := Clean([]Answer{a(0, 0), a(1, 2)}); len(c) != 1 || c[0].Node != id(0) {
		t.Errorf("votes of %v", c)
	}
	if _, err := Adopt([]Answer{a(0, 0), a(0, 0)}, 0); err == nil {
		t.Error("a node that votes twice is a quorum")
	}
}

// Two nodes whose epoch began differently have no common history.
func TestTwoPasts(t *testing.T) {
	answer := func(i int, on Position) Answer {
		law := charterOf(3, 0)
		law.Lineage = *law.Lineage.WithEpoch(2, on)
		return Answer{Node: id(i), Pos: at(2, uint32(i)), Charter: law}
	}
	_, err := Adopt([]Answer{answer(0, at(1, 5)), answer(1, at(1, 6)), answer(2, at(1, 5))}, 0)
	var clash *Conflict
	if !errors.As(err, &clash) {
		t.Errorf("adopted, %v", err)
	}
	if _, err := Adopt([]Answer{answer(0, at(1, 5)), answer(1, at(1, 5))}, 0); err != nil {
		t.Error(err)
	}
}

// Where lineages do not reach back far enough to prove what was committed, the
// equal number and the equal epoch are still enough to see it.
func TestTwoPastsNobodyProves(t *testing.T) {
	answer := func(i int, pos, on Position) Answer {
		law := charterOf(3, 0)
		law.Lineage = *new(Lineage).WithEpoch(2, on)
		return Answer{Node: id(i), Pos: pos, Charter: law}
	}
	low, other, high := at(2, 0), at(2, 0), at(2, 1)
	other.H[0] ^= 1
	var clash *Conflict
	for _, as := range [][]Answer{
		{answer(0, low, at(1, 5)), answer(1, other, at(1, 5)), answer(2, low, at(1, 5))},
		{answer(0, low, at(1, 5)), answer(1, high, at(1, 6)), answer(2, low, at(1, 5))},
	} {
		if _, err := Adopt(as, 0); !errors.As(err, &clash) {
			t.Errorf("adopted from %v, %v: %v", as[0].Pos, as[1].Pos, err)
		}
	}
	if _, err := Adopt([]Answer{answer(0, low, at(1, 5)), answer(1, high, at(1, 5))}, 0); err != nil {
		t.Error(err)
	}
}

// Masters change by a txg with both sets, then one with the new set.
func TestMastersChangeByBothSets(t *testing.T) {
	s := newStage(t, charterOf(3, 1), PrimaryOptions{})
	s.serve()
	before := s.p.Charter().Config
	wanted := charterOf(3, 1).Config.Members
	wanted[2].Role, wanted[3].Role = ondisk.PFSSlave, ondisk.PFSMaster
	s.prim(0, Reconfigure{wanted})
	during := s.p.Charter().Config
	if len(during.Sets()) != 2 || !during.IsMaster(id(2)) || !during.IsMaster(id(3)) || during.Version != before.Version+1 {
		t.Errorf("on the way: %+v", during)
	}
	s.settle(0)
	after := s.p.Charter().Config
	if len(after.Sets()) != 1 || after.IsMaster(id(2)) || !after.IsMaster(id(3)) || after.Version != before.Version+2 {
		t.Errorf("at the end: %+v", after)
	}
}
