package core

import (
	"errors"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A position proves the txg before it, and a barrier what its base proves.
func TestProves(t *testing.T) {
	l := (*Lineage)(nil).WithEpoch(1, Position{}).WithEpoch(3, at(1, 9)).WithEpoch(4, at(3, 0)).WithEpoch(5, at(4, 0))
	for _, c := range []struct{ pos, want Position }{
		{at(1, 9), at(1, 8)}, {at(3, 0), at(1, 8)}, {at(5, 0), at(1, 8)}, {at(5, 1), at(5, 0)}, {at(1, 0), Position{}},
	} {
		if got := l.proves(c.pos); got != c.want.T {
			t.Errorf("%v proves %v, not %v", c.pos.T, got, c.want.T)
		}
	}
}

// Whoever proves something that the history at hand lacks is in dispute with
// it: also if both had a primary of one number on one base.
func TestDenies(t *testing.T) {
	base := (*Lineage)(nil).WithEpoch(1, Position{})
	elected := func(l *Lineage, epoch uint32, on Position, cand uint32) *Lineage {
		l = l.WithEpoch(epoch, on)
		l.Epochs[len(l.Epochs)-1].Cand = cand
		return l
	}
	ours := elected(elected(base, 2, at(1, 9), 7), 3, at(2, 4), 7)
	for _, c := range []struct {
		what string
		pos  Position
		law  *Lineage
		want bool
	}{
		{"a tail that nobody can have been told of", at(2, 5), elected(base, 2, at(1, 9), 7), false},
		{"a txg beyond that", at(2, 6), elected(base, 2, at(1, 9), 7), true},
		{"one of another primary of that number", at(2, 2), elected(base, 2, at(1, 9), 8), true},
		{"nothing but its barrier", at(2, 1), elected(base, 2, at(1, 9), 8), false},
		{"a primary that was not known by name", at(2, 2), elected(base, 2, at(1, 9), 0), false},
		{"another base", at(2, 0), elected(base, 2, at(1, 11), 8), true},
	} {
		b := Answer{Pos: c.pos, Charter: &Charter{Lineage: *c.law}}
		if got := ours.denies(at(3, 1), &b); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
		if b.Flags = Foreign; ours.denies(at(3, 1), &b) {
			t.Errorf("%s: a node that does not count is believed", c.what)
		}
	}
	// So old that nobody remembers: taken as agreed.
	forgot := &Lineage{Epochs: ours.Epochs[2:]}
	b := Answer{Pos: at(2, 40), Charter: &Charter{Lineage: *elected(base, 2, at(1, 9), 7)}}
	if forgot.denies(at(3, 1), &b) {
		t.Error("a history that is forgotten is denied")
	}
}

// liar plays three masters. Node 2 falls behind, node 0 acknowledges what its
// disk does not keep, and then the power goes.
func liar(t *testing.T, omit Rule) (*Adopted, []Answer, error) {
	s := newStage(t, charterOf(3, 0), PrimaryOptions{})
	s.serve()
	s.prim(0, Propose{Batch: "a", Size: 1})
	s.settle(0)
	kept := s.nodes[0].State()
	s.prim(0, Detach{id(2)})
	for range 4 {
		s.prim(0, Propose{Batch: "b", Size: 1})
		s.settle(0)
	}
	if s.p.Committed() != s.p.Head() || s.nodes[1].State().Pos != s.p.Head() {
		t.Fatalf("committed is %v, the head %v", s.p.Committed(), s.p.Head())
	}
	var answers []Answer
	for i, d := range []Durable{kept, s.nodes[1].State(), s.nodes[2].State()} {
		answers = append(answers, d.Answer(id(i)))
	}
	if omit&OmitAcked != 0 {
		for i := range answers {
			answers[i].Acked = 0
		}
	}
	a, err := Adopt(answers, omit)
	return a, answers, err
}

// Symptom: three txgs that a quorum had acknowledged were dropped without a
// word, since one that had them lied and the other had fallen behind.
func TestLiarIsFoundOut(t *testing.T) {
	a, answers, err := liar(t, 0)
	if err != nil || a.Pos != answers[1].Pos {
		t.Errorf("adopted %+v, %v", a, err)
	}
	if !LostWrites(answers[0], answers) || LostWrites(answers[1], answers) || LostWrites(answers[2], answers) {
		t.Error("the wrong one has lost writes")
	}
	// Without the txg's word about the others the state is saved, but the liar votes.
	if a, _, err := liar(t, OmitAcked); err != nil || a.Pos != answers[1].Pos || len(a.Behind) != 2 {
		t.Errorf("adopted %+v, %v", a, err)
	}
	if a, _, err := liar(t, OmitAcked|OmitProven); err != nil || a.Pos == answers[1].Pos {
		t.Errorf("with neither rule nothing was lost: %+v, %v", a, err)
	}
}

// A barrier that came to nothing proves nothing about who has what it was
// built on: they may have been taken back behind it since.
func TestBarrierNotesCommittedOnly(t *testing.T) {
	law := charterOf(3, 0)
	s := newStage(t, law, PrimaryOptions{})
	ahead := s.nodes[0].State()
	ahead.Pos = at(1, 5)
	s.nodes[0] = NewNode(0, id(0), ahead, NodeOptions{})
	s.prim(0, Attach{*s.nodes[0].answer()})
	s.prim(0, Detach{id(2)})
	s.prim(0, Campaign{})
	for len(s.queue) > 0 && s.p.Phase() != Barrier {
		m := s.queue[0]
		s.queue = s.queue[1:]
		s.prim(0, Recv{Msg: said(t, s.nodes[m.Node[0]-1], 0, m)})
	}
	if s.p.Adopted() != at(1, 5) {
		t.Fatalf("adopted %v", s.p.Adopted())
	}
	barrier := Answer{Node: id(1), Pos: s.p.Head(), Charter: s.p.Charter()}
	for T, want := range map[ondisk.Tid]bool{at(1, 5).T: false, at(1, 4).T: false, at(1, 3).T: true} {
		a := Answer{Node: id(0), Pos: Position{T: T}, Charter: law}
		if got := LostWrites(a, []Answer{barrier}); got != want {
			t.Errorf("back at %v: lost is %v", T, got)
		}
	}
	// The primary itself, too, when one member has its barrier and no quorum.
	for _, m := range s.queue {
		if m.Node == id(0) {
			s.prim(0, Recv{Msg: said(t, s.nodes[0], 0, m)})
		}
	}
	if got := s.nodes[0].State().Pos; got != s.p.Head() || s.p.Phase() != Barrier {
		t.Fatalf("%v at %v", s.p.Phase(), got)
	}
	for T, want := range map[ondisk.Tid]Flags{at(1, 5).T: 0, at(1, 4).T: 0, at(1, 3).T: Tainted} {
		if got := s.p.Judge(Answer{Node: id(0), Pos: Position{T: T}, Charter: law}); got != want {
			t.Errorf("back at %v it is %q", T, got)
		}
	}
}

// Who comes back with less than it acknowledged in this epoch is tainted at
// once; who brings committed txgs of another history is left to the operator.
func TestJudge(t *testing.T) {
	s := newStage(t, charterOf(3, 0), PrimaryOptions{})
	s.serve()
	for range 3 {
		s.prim(0, Propose{Batch: "b", Size: 1})
		s.settle(0)
	}
	now := s.nodes[1].State()
	if f := s.p.Judge(now.Answer(id(1))); f != 0 {
		t.Errorf("a node in sync is %v", f)
	}
	less := now.Answer(id(1))
	less.Pos.T--
	if f := s.p.Judge(less); f != Tainted {
		t.Errorf("one that lost a txg is %q", f)
	}
	less.Node = id(5)
	if f := s.p.Judge(less); f != 0 {
		t.Errorf("one that is only behind is %v", f)
	}
	other := charterOf(3, 0)
	other.Lineage = *other.Lineage.WithEpoch(s.p.Ballot().Epoch, at(1, 0))
	other.Lineage.Epochs[1].Cand = 3
	for _, c := range []struct {
		pos  Position
		want Flags
	}{{at(2, 9), Disputed}, {at(3, 9), 0}} {
		a := Answer{Node: id(2), Pos: c.pos, Charter: other}
		if f := s.p.Judge(a); f != c.want {
			t.Errorf("at %v it is %q", c.pos.T, f)
		}
	}
	var clash *Conflict
	if _, err := Adopt([]Answer{now.Answer(id(1)), {Node: id(2), Pos: at(2, 9), Charter: other}}, 0); !errors.As(err, &clash) {
		t.Errorf("adopted, %v", err)
	}
}

// Symptom: a member that was too slow to answer in the election was copied
// over, though it was the last that had what was acknowledged.
func TestLateWitnessIsNotCopiedOver(t *testing.T) {
	law := charterOf(3, 0)
	s := newStage(t, law, PrimaryOptions{Wait: time.Second, Retry: time.Hour})
	has := s.nodes[2].State()
	has.Pos = at(1, 5)
	s.nodes[2] = NewNode(0, id(2), has, NodeOptions{})
	s.prim(0, Attach{*s.nodes[2].answer()})
	s.prim(0, Campaign{})
	for len(s.queue) > 0 {
		m := s.queue[0]
		s.queue = s.queue[1:]
		if m.Node != id(2) {
			s.prim(0, Recv{Msg: said(t, s.nodes[m.Node[0]-1], 0, m)})
		}
	}
	s.prim(time.Minute, Tick{}) // the rest was waited for
	for _, e := range s.out {
		if b, ok := e.(Behind); ok && b.Node == id(2) {
			if b.Answer.Flags != Disputed {
				t.Errorf("it is to be copied over, flags %q", b.Answer.Flags)
			}
			return
		}
	}
	t.Errorf("phase %v, effects %v", s.p.Phase(), s.out)
}
