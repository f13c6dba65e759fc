package merge

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
)

// cutOff merges what is on w, and is cut off after random steps: what is on the
// devices then is where the next process goes on. It returns what comes of it.
func cutOff(t *testing.T, old *stage, w *rig.World, rng *rand.Rand) string {
	t.Helper()
	for {
		s := &stage{t: t, ctx: old.ctx, log: old.log, w: w, brief: old.brief}
		s.open(home, soft)
		if s.ended() {
			s.state(cluster.NodeInSync)
			show := s.show()
			s.close()
			s.sound()
			return show
		}
		left, dead := rng.IntN(12), false
		var cut *rig.World
		pause := func(locked bool) {
			if left--; left > 0 || dead {
				return
			}
			dead = true
			if !locked && rng.IntN(2) == 0 {
				s.must(s.pool.Sync(s.ctx)) // as if a commit came just then
			}
			cut = s.w.Clone()
		}
		b := s.branch()
		r := s.run(Options{Small: 1 << 20, pause: pause})
		s.must(r.Merge(s.ctx))
		if cut == nil && rng.IntN(2) == 0 {
			cut = s.w.Clone() // before the branch ends
		}
		_, err := s.pool.EndBranch(s.ctx, b)
		s.must(err)
		if cut == nil && rng.IntN(2) == 0 {
			cut = s.w.Clone() // before the progress is forgotten
		}
		s.must(r.Finish(s.ctx))
		s.state(cluster.NodeInSync)
		show := s.show()
		s.close()
		if cut == nil {
			s.sound()
			return show
		}
		if w = cut; rng.IntN(4) == 0 {
			continue
		}
		// To its end, this time.
		last := &stage{t: t, ctx: old.ctx, log: old.log, w: w, brief: old.brief}
		last.open(home, soft)
		if !last.ended() {
			last.merge(Options{Small: 1 << 20})
		}
		last.state(cluster.NodeInSync)
		show = last.show()
		last.close()
		last.sound()
		return show
	}
}

// ended reports whether the branch was a member again when it was mounted.
func (s *stage) ended() bool { return len(s.pool.Branches()) == 0 }

// TestCuts cuts the power at each write of the soft master's device while it
// becomes a branch, and while it becomes a member again. It is the one or the
// other afterwards, with all that belongs to it, and what follows ends as it
// would have.
func TestCuts(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(home, soft)
	s.state(cluster.NodeInSync)
	s.do("write a base\nmkdir d\nwrite d/b base")
	s.must(s.pool.NodeOffline(s.ctx, rig.Name(soft)))
	s.close()
	cuts := s.cuts(func(s *stage, arm func()) error {
		arm()
		ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond) // the dead wait for nobody
		defer cancel()
		p, err := cluster.OpenPool(ctx, []cluster.MemberSpec{s.w.Members[soft].Spec()}, cluster.Options{Label: rig.Label})
		if err != nil {
			return err
		}
		return p.Close(ctx)
	}, func(s *stage) {
		s.open(soft)
		if s.pool.BranchOf() == nil {
			t.Error("it is no branch")
		}
		s.do("write a ours")
		s.close()
		s.open(home, soft)
		s.state(cluster.NodeBranch)
		s.merge(Options{})
		if show := s.show(); show != "a = ours\nd/\nd/b = base\n" {
			t.Errorf("after the cut:\n%s", show)
		}
		s.close()
		s.sound()
	})
	s.open(soft)
	s.do("write a ours\nwrite c ours")
	s.close()
	cuts += s.cuts(func(s *stage, arm func()) error {
		s.open(home, soft)
		defer func() {
			ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
			defer cancel()
			s.stop()
			_ = s.fs.Close(ctx) // the process is dead
			_ = s.pool.Close(ctx)
		}()
		s.state(cluster.NodeBranch)
		b := s.branch()
		r := s.run(Options{})
		s.must(r.Merge(s.ctx))
		arm()
		_, err := s.pool.EndBranch(s.ctx, b)
		return err
	}, func(s *stage) {
		s.open(home, soft)
		if !s.ended() {
			s.state(cluster.NodeBranch)
			s.merge(Options{})
		}
		s.state(cluster.NodeInSync)
		if show := s.show(); show != "a = ours\nc = ours\nd/\nd/b = base\n" {
			t.Errorf("after the cut:\n%s", show)
		}
		s.close()
		s.sound()
	})
	if cuts < 10 {
		t.Errorf("only %d cuts", cuts)
	}
}

// cuts runs do on copies of what is there, and cuts the power at one write of
// the soft master after the other, counted from when do calls arm; then it runs
// after.
func (s *stage) cuts(do func(c *stage, arm func()) error, after func(*stage)) (n int) {
	s.t.Helper()
	for nth := 1; ; nth++ {
		c := &stage{t: s.t, ctx: s.ctx, log: s.log, w: s.w.Clone(), brief: s.brief}
		err := do(c, func() {
			c.w.Members[soft].Arm(&rig.Trap{On: faultdev.Write, Nth: nth, Do: func() { c.w.Die(true) }})
		})
		if !c.w.Dead() {
			s.must(err)
			return n
		}
		n++
		for end := time.Now().Add(time.Minute); c.w.Held() != "" && time.Now().Before(end); {
			<-time.After(10 * time.Millisecond) // the dead close late
		}
		s.must(c.w.Restart(rand.New(rand.NewPCG(uint64(nth), 9))))
		after(c)
	}
}

// cutAt merges until stop says so, and returns what is on the devices then, all
// of it committed.
func (s *stage) cutAt(o Options, stop func(locked bool) bool) *rig.World {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var w *rig.World
	o.pause = func(locked bool) {
		if w == nil && stop(locked) {
			s.must(s.pool.Sync(s.ctx))
			w = s.w.Clone()
			cancel()
		}
	}
	_ = s.run(o).Merge(ctx) // it was cut off
	if w == nil {
		s.t.Fatal("the merge ended before it was cut off")
	}
	s.close()
	return w
}

// A large file that a crash left half written is written again, unless somebody
// changed it meanwhile: then both versions stay.
func TestHalfWritten(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.part(func() { s.do("fill a aaaaaaaaaa") }, func() { s.do("fill a bbbbbbbbbb\nfill n cccccccccc") }, func() {})
	small := Options{Small: 1 << 20}
	for _, file := range []string{"a", "n"} {
		n := map[string]int{"a": 1, "n": 4}[file]
		w := s.again().cutAt(small, func(locked bool) bool {
			if locked {
				n--
			}
			return n == 0
		})
		for _, touched := range []bool{false, true} {
			c := &stage{t: t, ctx: s.ctx, log: s.log, w: w.Clone(), brief: s.brief}
			want := "a = b*3000000\nn = c*3000000\n"
			c.open(home, soft)
			c.state(cluster.NodeBranch)
			if touched {
				c.do("write " + file + " mine")
				want = map[string]string{
					"a": "a = mine\na.conflict-b.img-1 = b*3000000\nn = c*3000000\nconflict a: changed on both sides: a.conflict-b.img-1\n",
					"n": "a = b*3000000\nn = mine\nn.conflict-b.img-1 = c*3000000\nconflict n: changed while it was merged: n.conflict-b.img-1\n",
				}[file]
			}
			c.merge(small)
			if show := c.show(); show != want {
				t.Errorf("%s, touched %v:\n%s", file, touched, show)
			}
			c.close()
			c.sound()
		}
	}
	s.close()
}

// again is another stage with what is on the devices now, mounted.
func (s *stage) again() *stage {
	c := &stage{t: s.t, ctx: s.ctx, log: s.log, w: s.w.Clone(), brief: s.brief}
	c.open(home, soft)
	c.state(cluster.NodeBranch)
	return c
}

// Numbers that a merge has set aside are not given to others, although nothing
// has them yet and the branch is away.
func TestNumbersLast(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.part(func() { s.do("write a one") }, func() { s.do("write a two\nwrite n1 x\nwrite n2 y") }, func() {})
	s.w = s.cutAt(Options{}, func(bool) bool { return true })
	s.open(home)
	s.do("write u1 mine\nwrite u2 mine")
	s.close()
	s.open(home, soft)
	s.state(cluster.NodeBranch)
	s.merge(Options{})
	if show := s.show(); show != "a = two\nn1 = x\nn2 = y\nu1 = mine\nu2 = mine\n" {
		t.Errorf("it ends as\n%s", show)
	}
	s.close()
	s.sound()
}

// When a merge returns nothing of it is in memory only: the branch, which has it
// too, may end.
func TestMergedIsDurable(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.part(func() { s.do("write a one") }, func() {}, func() { s.do("write a two\nwrite b new") })
	s.must(s.run(Options{}).Merge(s.ctx))
	if d := s.pool.Status().Dirty; d.Bytes > d.Logged {
		t.Errorf("%d bytes are in memory only (%d logged)", d.Bytes, d.Logged)
	}
	s.close()
}
