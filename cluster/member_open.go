package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
	"github.com/anvilfs/anvilfs/ondisk"
)

// A refusal is a mistake of the user or a state that only the operator can
// judge: the mount does not start, even if the other members would do.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func refusef(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// findPFS returns the PFS of that label. Its error lists what is there.
func findPFS(ctx context.Context, v *chain.Volume, label string) (chain.PFSInfo, error) {
	infos, err := v.PFSs(ctx)
	if err != nil {
		return chain.PFSInfo{}, err
	}
	var have, choice []string
	for _, i := range infos {
		if i.Label == label {
			return i, nil
		}
		have = append(have, i.Label)
		if i.Label != "LOCAL" && i.Subtype == ondisk.PFSSubNone && !strings.HasPrefix(i.Label, ".anvilfs-") {
			choice = append(choice, i.Label)
		}
	}
	switch {
	case label == "" && len(choice) == 1:
		return findPFS(ctx, v, choice[0])
	case label == "":
		return chain.PFSInfo{}, refusef("%s: say which PFS, as in %s@LABEL: there are %s", v.Name(), v.Name(), strings.Join(have, ", "))
	}
	return chain.PFSInfo{}, refusef("%s: there is no PFS %q: there are %s", v.Name(), label, strings.Join(have, ", "))
}

// openMember opens a member and reads what it says about itself. Errors that
// are a *refusal are about what the user asked for; others about the device.
func openMember(ctx context.Context, spec MemberSpec, o *Options, log *slog.Logger) (*conn, core.Durable, error) {
	var d core.Durable
	devs, err := spec.Open(ctx)
	if err != nil {
		return nil, d, fmt.Errorf("%s: %w", spec.Name, err)
	}
	vol, err := chain.Open(ctx, devs, chain.Options{ReadOnly: o.ReadOnly, Logger: log, CacheBytes: cacheShare(o)})
	if err != nil {
		return nil, d, fmt.Errorf("%s: %w", spec.Name, err)
	}
	c := &conn{name: spec.Name, vol: vol, log: log}
	if c.info, err = findPFS(ctx, vol, o.Label); err == nil {
		c.label = c.info.Label
		d, err = c.load(ctx)
	}
	if err != nil {
		vol.Close()
		var r *refusal
		if errors.As(err, &r) {
			return nil, d, err
		}
		return nil, d, fmt.Errorf("%s: %w", spec.Name, err)
	}
	return c, d, nil
}

// cacheShare is what one member may keep of decoded tables.
func cacheShare(o *Options) int64 {
	if o.Memory == 0 {
		return 0
	}
	return max(o.Memory/16, 1<<20)
}

// load reads the state of the PFS from the volume and shows it to readers.
func (c *conn) load(ctx context.Context) (core.Durable, error) {
	var d core.Durable
	entry, clustered := c.vol.State(c.info.Fsid)
	v, err := c.vol.View(ctx, c.label)
	if err != nil {
		return d, err
	}
	T := v.T()
	law, err := readCharter(ctx, v)
	v.Release()
	if err != nil && !clustered {
		return d, err
	}
	c.setReason("")
	if !clustered {
		return c.loadSolo(ctx, T, law)
	}
	c.entry = entry
	why := ""
	d = core.Durable{
		Promised:    core.Ballot{Epoch: entry.PromisedEpoch, Cand: entry.Candidate},
		Pos:         Position{T: entry.T, H: entry.H},
		Charter:     law,
		Incarnation: entry.Incarnation,
	}
	switch {
	case entry.T == 0: // made by replace, nothing was copied to it yet
		d.Pos, d.Charter = Position{}, nil
	case T != entry.T:
		d.Flags |= core.Foreign
		why = fmt.Sprintf("changed by another system: the tree is at %v, our last txg was %v", T, entry.T)
	case err != nil:
		d.Flags |= core.Tainted
		why = err.Error()
	case law == nil:
		d.Flags |= core.Tainted
		why = "the charter of the cluster is gone"
	case c.vol.Tainted() != nil && !c.mended:
		d.Flags |= core.Tainted
		why = c.vol.Tainted().Error()
	}
	c.setReason(why)
	return d, c.show(ctx, d)
}

// loadSolo is load for a PFS without a state entry: made by others, or never
// part of a cluster. A charter that lists it says that its state was lost.
func (c *conn) loadSolo(ctx context.Context, T ondisk.Tid, law *Charter) (core.Durable, error) {
	if law != nil {
		if _, member := law.Config.Member(c.info.Fsid); member {
			c.entry = ondisk.StateEntry{Fsid: c.info.Fsid}
			c.setReason("its cluster state is gone from the volume header")
			d := core.Durable{Flags: core.Tainted}
			return d, c.show(ctx, d)
		}
	}
	c.solo = true
	d := core.Durable{Pos: Position{T: T}, Charter: &Charter{Config: Config{
		Members: []Member{{Fsid: c.info.Fsid, Role: ondisk.PFSMaster}},
	}}}
	return d, c.show(ctx, d)
}
