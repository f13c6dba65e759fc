package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
)

// An ownCopy is a device that was given for a new member of a mount and holds a copy
// of its filesystem already.
type ownCopy struct {
	device, dir string
	node        cluster.NodeStatus
	err         error // what was said of the device; nil: it was not tried
}

func (c *ownCopy) Unwrap() error { return c.err }

// Error says which copy it is, and what is to be typed instead.
func (c *ownCopy) Error() string {
	quote := advice.Quote
	anew := fmt.Sprintf("anvilfs node replace -f %s %s %s", quote(c.dir), quote(c.node.Name), quote(c.device))
	switch {
	case c.node.Name == "":
		return fmt.Sprintf("%s has an old copy of this filesystem, which is no member any more: nothing was changed; give -f to overwrite it", c.device)
	case c.node.State == cluster.NodeMissing:
		return fmt.Sprintf("%s is a copy of this filesystem, its member %s, which was not given to the mount: nothing was changed: mount again with it, or ",
			c.device, c.node.Name) + anew + " makes it anew"
	case c.node.State == cluster.NodeOffline:
		return fmt.Sprintf("%s is a copy of this filesystem, its node %s, which is offline: nothing was changed: anvilfs node online %s %s brings it back, ",
			c.device, c.node.Name, quote(c.dir), quote(c.node.Name)) + anew + " makes it anew"
	case c.node.Total == 0:
		return fmt.Sprintf("%s is a copy of this filesystem, its node %s, which is %s: nothing was changed: it comes back by itself when it can, ",
			c.device, c.node.Name, c.node.State) + anew + " makes it anew"
	}
	return fmt.Sprintf("%s is a copy of this filesystem, its node %s, which is in use: nothing was changed: to have it made anew, anvilfs node offline %s %s, then ",
		c.device, c.node.Name, quote(c.dir), quote(c.node.Name)) + anew
}

// ownCopy looks at what is known of devices, and at what they hold; nil: that is no
// copy of the filesystem.
func (st *mountStatus) ownCopy(dir, device string, paths []string, holds []chain.PFSInfo) *ownCopy {
	c := &ownCopy{device: device, dir: dir}
	if name, ok := st.called(paths); ok {
		i := slices.IndexFunc(st.Nodes, func(n cluster.NodeStatus) bool { return n.Name == name && n.Role != ondisk.PFSNone.String() })
		if i < 0 {
			return nil // a cache, or nobody knows which member it is
		}
		c.node = st.Nodes[i]
		return c
	}
	old := false
	for i := range holds {
		p := &holds[i]
		if !cluster.Mountable(p) || p.Type == ondisk.PFSCache {
			continue // a cache is no copy, and is taken as it is
		}
		old = old || p.Clid.String() == st.Server.Cluster
		for _, n := range st.Nodes { // a branch has another cluster id
			// One that is in use is somewhere else: what was given was copied from it.
			if n.Fsid == p.Fsid.String() && (n.State == cluster.NodeMissing || n.State == cluster.NodeOffline) {
				c.node = n
				return c
			}
		}
	}
	if !old {
		return nil
	}
	return c
}

// refuseOwn is an error if a device that is to become a member of the mount on dir
// holds a copy of that filesystem. With force that may be overwritten, but for one
// that is added and is a node of the mount: it would be that and another one.
func refuseOwn(ctx context.Context, dir, text, verb string, force bool) error {
	st, err := statusOf(ctx, dir)
	if err != nil {
		return nil // the mount is to say why
	}
	m, err := parseMember(text)
	if err != nil {
		return err
	}
	var holds []chain.PFSInfo
	if v, err := openVolume(ctx, m, chain.Options{ReadOnly: true}); err == nil {
		holds, _ = v.PFSs(ctx) // what cannot be read is no copy that is worth a word
		_ = v.Close()          // nothing was written
	}
	c := st.ownCopy(dir, m.name, m.paths, holds)
	_, known := st.called(m.paths)
	if c == nil || force && (verb == "replace" || !known) {
		return nil
	}
	return c
}
