package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster/core"
)

// A refusal is a mistake of the user or a state that only the operator can
// judge: the mount does not start, even if the other members would do.
type refusal struct {
	text string
	is   error // may be nil
}

func (r *refusal) Unwrap() error { return r.is }

func (r *refusal) Error() string { return r.text }

func refusef(format string, args ...any) error { return &refusal{text: fmt.Sprintf(format, args...)} }

// findPFS returns the PFS of that label. Its error lists what is there. That the
// root of another PFS, as of a snapshot, cannot be read is no reason to do without
// this one: what lies below stays allocated. Unless another system wrote the volume:
// then it may be that nobody knows what is in use there.
func findPFS(ctx context.Context, v *chain.Volume, label string) (chain.PFSInfo, error) {
	infos, damage := v.PFSs(ctx)
	var have, choice []string
	for _, i := range infos {
		switch {
		case i.Label != label:
		case damage != nil && v.Guessed() != nil:
			return chain.PFSInfo{}, fmt.Errorf("what is free on it is not known, since another system wrote it and the root of a PFS cannot be read: "+
				"it can be mounted with ro: %w", damage)
		default:
			return i, ctx.Err()
		}
		have = append(have, i.Label)
		if Mountable(&i) {
			choice = append(choice, i.Label)
		}
	}
	switch {
	case damage != nil && len(choice) > 0 && label == "":
		return chain.PFSInfo{}, fmt.Errorf("say which PFS, as in %s@%s: the root of another one cannot be read: %w", v.Name(), choice[0], damage)
	case damage != nil:
		return chain.PFSInfo{}, damage
	case label == "" && len(choice) == 1:
		return findPFS(ctx, v, choice[0])
	case label == "":
		return chain.PFSInfo{}, refusef("%s: say which PFS, as in %s@LABEL: there are %s", v.Name(), v.Name(), strings.Join(have, ", "))
	}
	return chain.PFSInfo{}, &refusal{fmt.Sprintf("%s: there is no PFS %q: there are %s", v.Name(), label, strings.Join(have, ", ")), chain.ErrNoPFS}
}

// openMember opens a member and reads what it says about itself. Errors that
// are a *refusal are about what the user asked for; others about the device.
func openMember(ctx context.Context, spec MemberSpec, o *Options, log *slog.Logger) (*conn, core.Durable, error) {
	var d core.Durable
	devs, err := spec.Open(ctx)
	if err != nil {
		return nil, d, nameError(spec.Name, &absence{err})
	}
	m, err := OpenMedia(ctx, spec.Name, devs, o.Label, chain.Options{ReadOnly: o.ReadOnly, Logger: log, CacheBytes: cacheShare(o)})
	if err != nil {
		return nil, d, nameError(spec.Name, err)
	}
	m.now = o.Now
	c := &conn{Media: m, log: log}
	if d, err = c.load(ctx); err != nil {
		err = m.vol.Unused(err)
		m.vol.Close()
		return nil, d, nameError(spec.Name, err)
	}
	return c, d, nil
}

// nameError says whose error it is; a refusal does already, and one that begins with
// the path.
func nameError(name string, err error) error {
	var r *refusal
	at, _, _ := strings.Cut(err.Error(), ": ")
	if errors.As(err, &r) || at == name || strings.HasSuffix(at, "/"+name) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
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
	d, why, err := c.Load(ctx)
	if err != nil {
		return d, err
	}
	c.setReason(why)
	return d, c.show(ctx, d)
}
