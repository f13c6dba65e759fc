package crash

import (
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/chain/crashtest"
)

// explored is what a run leaves to say, on a cluster of that shape whose flush
// number drop is lost; 0 = none. Of each window, at most that many images are
// looked at.
func explored(t *testing.T, shape Shape, drop, most int, steps ...func(*session) error) (said string) {
	t.Helper()
	img, err := shape.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tap := shape.newTap(img, 1)
	tap.Drop(drop)
	s := newSession(t.Context(), shape, tap, nil, 1)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if err := step(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	e := &crashtest.Explorer{Limit: 1}
	c := e.Explore(t.Context(), s.recording(), crashtest.Job{Name: t.Name(), Max: most, Every: recoveries(t)})
	if c.Distinct == 0 && len(e.Failures()) == 0 {
		t.Fatal("nothing was looked at")
	}
	if list := e.Failures(); len(list) > 0 {
		return list[0].Error()
	}
	return ""
}

// noticed demands a failure that says so.
func noticed(t *testing.T, said, what string) {
	t.Helper()
	if !strings.Contains(said, what) {
		t.Errorf("want %q noticed; said was: %q", what, said)
	}
}

func setup(s *session) error { return s.call(call{"setup", callSetup}) }

func write(s *session) error { return s.call(call{"write", callWrite}) }

// A flush that a device answers and does not do is noticed, whichever of a
// commit's it is, but for one. With one header slot the header goes to the spare
// place before it goes to slot 0, each with a flush behind it. Nobody looks at
// the spare place while slot 0 is whole, so that the flush before, of the
// blocks, may be lost: the next one covers them, too. That next one is missed
// where slot 0 is torn so that its tid, but not the rest, is new: it takes more
// images to meet that.
func TestLostFlushIsNoticed(t *testing.T) {
	for _, c := range []struct{ shape, each, most int }{{0, 3, 40}, {1, 2, 12}} {
		shape := Shapes()[c.shape]
		var at []int
		count := func(s *session) error {
			at = append(at, s.tap.Flushes())
			return nil
		}
		steps := []func(*session) error{setup, count, (*session).sync, count, write, (*session).sync, count}
		if said := explored(t, shape, 0, c.most, steps...); said != "" {
			t.Fatalf("%s, with all flushes: %s", shape.Name, said)
		}
		begin, end := at[0], at[2]
		if end-begin != 2*c.each {
			t.Fatalf("%s: %d flushes in two commits, want %d", shape.Name, end-begin, 2*c.each)
		}
		for n := range end - begin {
			covered := c.each == 3 && n%3 == 0
			said := explored(t, shape, begin+1+n, c.most, steps...)
			if said == "" != covered {
				t.Errorf("%s: flush %d of %d in two commits is lost, and is covered by the next: %v; said was %q", shape.Name, n+1, end-begin, covered, said)
			}
		}
	}
}

// A sync that returns before it is done is noticed, alone and where a majority
// must have done it.
func TestSyncTooEarlyIsNoticed(t *testing.T) {
	early := func(s *session) error {
		s.acknowledge(s.events())
		return s.sync()
	}
	for _, shape := range []Shape{Shapes()[0], Shapes()[2]} {
		said := explored(t, shape, 0, 6, setup, (*session).sync, write, early)
		noticed(t, said, `not the state after "write"`)
	}
}

// A call of which a part is durable before the rest is noticed, also without
// any sync that would have promised it.
func TestTornCallIsNoticed(t *testing.T) {
	torn := call{"torn", func(s *session, m *model) error {
		if err := callRename(s, m); err != nil {
			return err
		}
		if err := s.pool.Sync(s.ctx); err != nil {
			return err
		}
		return callOverwrite(s, m)
	}}
	said := explored(t, Shapes()[0], 0, 6, setup, (*session).sync, func(s *session) error { return s.call(torn) }, (*session).sync)
	noticed(t, said, `not the state after "torn"`)
}

// A state that no moment tells of is noticed, though it was acknowledged.
func TestStateOfNoMomentIsNoticed(t *testing.T) {
	forget := func(s *session) error {
		last := len(s.moments) - 1
		s.moments = append(s.moments[:last-1], s.moments[last]) // as if it had never been there alone
		s.synced = last - 1
		return nil
	}
	said := explored(t, Shapes()[0], 0, 6, setup, (*session).sync, write, (*session).sync, write, forget, (*session).sync)
	noticed(t, said, "not the state after")
}

// A call that does something else than the model says is noticed at once.
func TestWrongCallIsNoticed(t *testing.T) {
	img, err := Shapes()[0].build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(t.Context(), Shapes()[0], Shapes()[0].newTap(img, 1), nil, 1)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	err = s.call(call{"chmod", func(s *session, m *model) error {
		if err := callSetup(s, m); err != nil {
			return err
		}
		a, _ := m.find(s.base + "/a")
		m.change(a, func(f *file) { f.mode ^= 0o011 })
		return nil
	}})
	if err == nil || !strings.Contains(err.Error(), "not what it should be") {
		t.Errorf("%v", err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// A block of one member that is not what it should be, and members that are not
// equal, are noticed though the others would do.
func TestBadMemberIsNoticed(t *testing.T) {
	shape := Shapes()[2]
	img, err := shape.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tap := shape.newTap(img, 1)
	s := newSession(t.Context(), shape, tap, nil, 1)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(*session) error{setup, (*session).sync} {
		if err := step(s); err != nil {
			t.Fatal(err)
		}
	}
	blocks, _, _, err := s.pool.MediaBlocks(t.Context(), 0, 0, 1)
	if err != nil || len(blocks) == 0 {
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
	s.ragged = true
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	rec, last := s.recording(), len(s.moments)-1
	whole := tap.Least(tap.Events()).Image
	if _, err := rec.Judge(t.Context(), whole.Clone(), []int{last}); err != nil {
		t.Fatal(err)
	}
	bad := whole.Clone()
	for i := range shape.Masters { // whichever member was asked for the block
		if _, err := bad.WriteAt([]byte("damage"), int64(i)*shape.Size+int64(blocks[0].Off)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rec.Judge(t.Context(), bad, []int{last}); err == nil || !strings.Contains(err.Error(), "as it was left") {
		t.Errorf("a damaged block: %v", err)
	}
	unequal(t, s)
}

// unequal looks at members one of which has a txg less.
func unequal(t *testing.T, s *session) {
	t.Helper()
	if err := s.mount(s.shape.specs(s.devs)[:2]...); err != nil {
		t.Fatal(err)
	}
	if err := write(s); err != nil {
		t.Fatal(err)
	}
	if err := s.pool.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.noteLevel()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := s.inspect(); err == nil || !strings.Contains(err.Error(), "members are at") {
		t.Errorf("unequal members: %v", err)
	}
}
