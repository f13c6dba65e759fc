package merge

import (
	"os"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cluster/rig"
)

// TestScripts runs testdata/merge.txt. A case is a title, what happens before
// the branch leaves, on the branch, and meanwhile in the cluster; then what the
// filesystem is once the branch was merged:
//
//	== title
//	write a one
//	-- ours
//	write a two
//	-- theirs
//	write b three
//	----
//	a = two
//	b = three
func TestScripts(t *testing.T) {
	const path = "testdata/merge.txt"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), "== ")
	cases := strings.Split(rest, "\n== ")
	got := make([]string, len(cases))
	t.Run("cases", func(t *testing.T) {
		for i, c := range cases {
			title, body, _ := strings.Cut(c, "\n")
			script, want, _ := strings.Cut(body, "----\n")
			t.Run(title, func(t *testing.T) {
				t.Parallel()
				base, ours, _ := strings.Cut(script, "-- ours\n")
				ours, theirs, _ := strings.Cut(ours, "-- theirs\n")
				s := newStage(t)
				s.part(func() { s.do(base) }, func() { s.do(ours) }, func() { s.do(theirs) })
				s.merge(Options{Small: 1 << 20})
				out := s.show()
				s.close()
				s.sound()
				got[i] = "== " + title + "\n" + script + "----\n" + out
				if !*rewrite && strings.TrimSpace(out) != strings.TrimSpace(want) {
					t.Errorf("%s:\n%s----\n%s\nnot\n%s", title, script, out, want)
				}
			})
		}
	})
	if len(cases) < 30 && !*rewrite {
		t.Errorf("only %d cases", len(cases))
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(head+strings.Join(got, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPulled: a soft master that just vanishes leaves with what was committed,
// and nobody waits for it.
func TestPulled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.open(home, soft)
	s.state(cluster.NodeInSync)
	s.do("write a base")
	s.must(s.pool.Sync(s.ctx))
	s.state(cluster.NodeInSync)
	s.w.Members[soft].Pull()
	s.do("write a theirs\nwrite b theirs")
	s.must(s.pool.Sync(s.ctx))
	if st := s.pool.Status(); st.Health != cluster.PoolHealthy {
		t.Errorf("without it the pool is %s", st.Health)
	}
	s.close()
	s.w.Members[soft].Plug(nil)
	s.open(soft)
	if show := s.show(); show != "a = base\n" {
		t.Errorf("it left with\n%s", show)
	}
	s.do("write a ours\nwrite c ours")
	s.close()
	s.open(home, soft)
	s.state(cluster.NodeBranch)
	s.merge(Options{})
	if show := s.show(); show != "a = theirs\na.conflict-b.img-1 = ours\nb = theirs\nc = ours\nconflict a: changed on both sides: a.conflict-b.img-1\n" {
		t.Errorf("it ends as\n%s", show)
	}
	s.close()
	s.sound()
}

// TestTwice: a branch that is taken away again before its merge has ended, and
// changed once more, loses nothing; and a member that was merged can be taken
// away again.
func TestTwice(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.part(func() { s.do("write a base\nwrite b base") }, func() { s.do("write a ours1\nwrite n ours1") }, func() { s.do("write b theirs1") })
	n := 0
	s.w = s.cutAt(Options{}, func(bool) bool { n++; return n == 3 })
	s.open(soft)
	s.do("write a ours2\nwrite n ours2\nwrite m ours2")
	s.close()
	s.open(home)
	s.do("write o theirs2")
	s.close()
	s.open(home, soft)
	s.state(cluster.NodeBranch)
	s.merge(Options{})
	show := s.show()
	for _, want := range []string{"= ours2\n", "b = theirs1\n", "o = theirs2\n", "m = ours2\n"} {
		if !strings.Contains(show, want) {
			t.Errorf("%q is not in\n%s", want, show)
		}
	}
	s.must(s.pool.NodeOffline(s.ctx, rig.Name(soft)))
	s.close()
	s.open(soft)
	s.do("write b ours3")
	s.close()
	s.open(home, soft)
	s.state(cluster.NodeBranch)
	s.merge(Options{})
	if show := s.show(); !strings.Contains(show, "b = ours3\n") {
		t.Errorf("the second journey ends as\n%s", show)
	}
	s.close()
	s.sound()
}
