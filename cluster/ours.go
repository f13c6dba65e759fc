package cluster

import (
	"context"
	"fmt"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/ondisk"
)

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
		if name := e.countsOn(infos[i].Fsid, replaced); name != "" && Mountable(&infos[i]) {
			return fmt.Errorf("it is the copy of %s, a member that is not in use: nothing was changed; "+
				"anvilfs node online MNT MEMBER uses it again, anvilfs node remove MNT MEMBER gives it up", name)
		}
	}
	return nil
}

// countsOn is the name of a member that is not open; "" if fsid is none, or replaced.
func (e *engine) countsOn(fsid, replaced ondisk.UUID) (name string) {
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
			name = m.spec.Name
		}
	})
	return name
}
