package cluster

import (
	"context"

	"github.com/anvilfs/anvilfs/ondisk"
)

// noSuchMember asks for what a member can be told, of one that was removed (a and b,
// of c and d): it was said to be offline now by the operator, to be brought back, or
// to have no change of another system.
func noSuchMember(c *testCluster, e *engine) {
	c.t.Helper()
	grow := func(_ context.Context, name string) error { _, _, err := e.growable(name, nil); return err }
	role := func(ctx context.Context, name string) error { return e.setRole(ctx, name, ondisk.PFSSlave) }
	replace := func(ctx context.Context, name string) error { return e.replace(ctx, name, c.spec(1), true) }
	for what, do := range map[string]func(context.Context, string) error{
		"offline": e.offline, "online": e.online, "discard": e.discard, "remove": e.remove,
		"grow": grow, "role": role, "replace": replace,
	} {
		for name, want := range map[string]string{
			"a.img":  "a.img is no member any more; those that are: c.img, d.img",
			"b.img":  "b.img is no member any more; those that are: c.img, d.img",
			"nobody": "nobody is no member; those that are: c.img, d.img",
		} {
			if err := do(c.ctx, name); err == nil || err.Error() != want {
				c.t.Errorf("%s %s: %v", what, name, err)
			}
		}
	}
	for _, r := range e.nodes()[:2] {
		if r.Err != "not a member of the cluster any more" || r.Remedy != anewRemedy {
			c.t.Errorf("%s, which was removed, is shown with %q and %q", r.Name, r.Err, r.Remedy)
		}
	}
}
