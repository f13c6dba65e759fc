package cluster

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A NodeError is about another node than the one that a command was given: NODE, in
// the commands that its text has, is that one.
type NodeError struct {
	Node string
	Err  error
}

func (e *NodeError) Error() string { return e.Err.Error() }
func (e *NodeError) Unwrap() error { return e.Err }

// noCopy refuses devices with a copy that the cluster counts on, under whatever
// name: a member that is offline, or was not given to this mount, would be lost,
// and its line in the status go on as if it were there. Force is for what is no
// part of the cluster. The member that is replaced may be used for what takes its
// place, and the copy of one that is open elsewhere is none that is counted.
func (e *engine) noCopy(ctx context.Context, devs []ondisk.Device, replaced ondisk.UUID) error {
	look := make([]ondisk.Device, len(devs))
	for i, d := range devs {
		look[i] = kept{d}
	}
	vol, err := chain.Open(ctx, look, chain.Options{ReadOnly: true, CacheBytes: 1 << 20})
	if err != nil {
		return nil // no copy can be read from it
	}
	defer vol.Close() // nothing was written
	infos, _ := vol.PFSs(ctx)
	for i := range infos {
		name, given := e.countsOn(infos[i].Fsid, replaced)
		if name == "" || !Mountable(&infos[i]) {
			continue
		}
		what, again := "was not given to the mount", "mount again with it"
		if given {
			what, again = "is not in use", "anvilfs node online MNT NODE uses it again"
		}
		return &NodeError{name, fmt.Errorf("it is the copy of %s, a member that %s: nothing was changed; %s, anvilfs node remove MNT NODE gives it up",
			name, what, again)}
	}
	return nil
}

// countsOn is the name of a member that is not open; "" if fsid is none, or replaced.
// given: it was named in this mount.
func (e *engine) countsOn(fsid, replaced ondisk.UUID) (name string, given bool) {
	e.ask(func() {
		if law := e.charter(); law == nil || fsid == replaced {
			return
		} else if _, ok := law.Config.Member(fsid); !ok {
			return
		}
		switch m := e.byFsid(fsid); {
		case m == nil:
			name = fsid.String()
		case m.conn == nil:
			name, given = m.spec.Name, true
		}
	})
	return name, given
}
