package cluster

import (
	"testing"

	"github.com/anvilfs/anvilfs/ondisk"
)

// A member may have brought a logged name into its tree already when the next
// group removes it: the overlay has to hide it there.
func TestAbsorbHidesWhatWasLogged(t *testing.T) {
	name := ondisk.Dirent{Key: ondisk.DirBit | 7<<16, Inum: 2000, Type: ondisk.ObjFile, Name: "n"}
	logged := newOverlay()
	for _, state := range []dentState{dentLive, dentGone} {
		u := newOverlay()
		u.setEntry(ondisk.InumRoot, name, state, state == dentGone)
		logged.absorb(u)
	}
	if e := logged.find(ondisk.InumRoot).dir.key(name.Key); e == nil || e.state != dentGone {
		t.Errorf("%+v does not hide the name from a view that has it", e)
	}
}

// With Options.NoLog no group asks for the log, whoever waits for it.
func TestNoLog(t *testing.T) {
	for _, off := range []bool{false, true} {
		g := newGroup(1)
		g.hurry.Store(true)
		p := &Pool{opts: Options{NoLog: off}}
		p.budget.closeAt = 1 << 20
		p.state.Store(&state{open: g})
		if got := p.mayLog(g); got == off {
			t.Errorf("NoLog %v: a group that a sync waits for may be logged: %v", off, got)
		}
	}
}
