package merge

import (
	"fmt"
	"strings"
	"testing"
)

// TestLosses: all that a branch changed is told of, each thing once, and what
// it only looked at is not.
func TestLosses(t *testing.T) {
	s := newStage(t)
	s.part(func() {
		s.do("mkdir d\nmkdir d/e\nwrite d/a one\nfill d/b x\nwrite d/c three\nwrite d/e/f four\nwrite g five\nln g h\nwrite same 6\nwrite t 7\nmkdir gone\nwrite gone/x 8")
	}, func() {
		s.do("write d/a new\npoke d/b y\nrm d/c\nmv d/e e\nrm h\nmkdir n\nwrite n/m o\nsymlink n/s m\nattr d tag v\nwrite same 6\ntouch t\nrm gone/x\nrmdir gone\nchmod g 600")
	}, func() {
		s.do("write d/a theirs\nrm same")
	})
	list, err := Losses(s.ctx, s.branch())
	s.must(err)
	var got strings.Builder
	for _, l := range list {
		fmt.Fprintln(&got, strings.TrimSpace(l.What+" "+l.Path+" "+l.From))
	}
	want := "changed /d\nchanged /d/a\nchanged /d/b\nremoved /d/c\nmoved /e /d/e\nchanged /g\nremoved /gone\nremoved /gone/x\nremoved /h\n" +
		"new /n\nnew /n/m\nnew /n/s\nchanged /same\nchanged /t\n"
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	s.close()
}
