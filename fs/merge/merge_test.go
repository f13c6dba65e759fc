package merge

import (
	"os"
	"strings"
	"testing"
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
