package merge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anvilfs/anvilfs/fs"
)

// limitIf gives directory p an account.
func (s *stage) limitIf(now bool) {
	s.t.Helper()
	if !now {
		return
	}
	inum, err := s.find("p")
	s.must(err)
	s.must(s.fs.SetQuota(s.ctx, inum, func(l *fs.Limits) { l.Bytes = 1 << 30 }))
	s.must(s.fs.WaitQuota(s.ctx, inum))
}

// accounts are the sums of all accounts, committed.
func (s *stage) accounts() string {
	s.t.Helper()
	var lines []string
	for range 2 { // a count that is under way ends, and is committed
		s.must(s.pool.Sync(s.ctx))
		list, err := s.fs.Quotas(s.ctx)
		s.must(err)
		lines = lines[:0]
		for _, q := range list {
			s.must(s.fs.WaitQuota(s.ctx, q.Inum))
			lines = append(lines, fmt.Sprintf("%d: %d bytes, %d inodes, in %d", q.Inum, q.Bytes, q.Inodes, q.Parent))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// What a merge brings is charged where it lies, and what it takes away is not.
func TestAccounts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ours, theirs, limited string }{
		{"new files", "fill p/new n\nwrite p/small s\nmkdir p/d\nfill p/d/x y", "fill p/other z", "base"},
		{"changed", "fill p/f n\nfill q/g n", "", "base"},
		{"removed", "rm p/f\nrm q/g", "write q/h x", "base"},
		{"file in", "mv q/g p/g", "", "base"},
		{"file out", "mv p/f q/f", "", "base"},
		{"tree in", "mv q/tree p/in", "write q/tree/more m", "theirs"},
		{"tree out", "mv p/tree q/t2", "", "theirs"},
		{"account moved", "mv p q/p", "", "base"},
		{"account changed", "write p/f 1", "write p/f 2", "base"},
		{"limited on the branch", "mkdir q/n\nfill q/n/x y\nwrite p/f z", "fill p/g 3", "ours"},
		{"conflict", "fill p/f a\nmv q/tree p/in", "fill p/f b\nmv q/tree q/elsewhere", "theirs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.part(func() {
				s.do("mkdir p\nmkdir q\nmkdir p/tree\nmkdir q/tree\nfill p/f a\nfill q/g b\nfill p/tree/a 1\nfill q/tree/a 2\nmkdir q/tree/deep\nfill q/tree/deep/b 3")
				s.limitIf(c.limited == "base")
			}, func() {
				s.limitIf(c.limited == "ours")
				s.do(c.ours)
			}, func() {
				s.limitIf(c.limited == "theirs")
				s.do(c.theirs)
			})
			s.merge(Options{})
			got := s.accounts()
			s.must(s.fs.RecountQuotas(s.ctx))
			if want := s.accounts(); got != want {
				t.Errorf("after the merge\n%s\ncounted anew\n%s", got, want)
			}
			s.close()
			s.sound()
		})
	}
}
