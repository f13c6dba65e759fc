package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/chain/media"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
	"github.com/anvilfs/anvilfs/ondisk/signature"
)

// A growth is what a member is to grow by.
type growth struct {
	add    string // a device more; "" = what its own became larger by
	force  bool   // whatever is on that device
	asJSON bool
}

func growCommand() *cobra.Command {
	var g growth
	c := &cobra.Command{
		Use:   "grow DEVICE...",
		Short: "Use all of a device that became larger, or one more device",
		Long: `The device was enlarged - a logical volume extended, an image file made longer -
or what was on it was copied to a larger one. The filesystem on it gets all of it, to
whole 8 MiB. Of a member of several devices (DEVICE:DEVICE) it is the last one that
can be grown.

--add makes NEWDEVICE a part of the member, behind what it has: DEVICE is
DEVICE:NEWDEVICE from then on, in mounts and fstab too. What NEWDEVICE holds is lost; if
that is anything known, -f is needed. A member has up to 64 devices, and each but
the last at least 1 GiB, of which whole GiBs are used: what is behind them on the
device that was the last so far is copied to the new one, which is why that needs a
certain size.

This takes moments, whatever the size, and a power cut leaves the filesystem as it was
or as it is to be. A device that was being added is then as unused as before, and
added again without -f. What is mounted is grown by its mount while it is in use, as
by anvilfs node grow.

Nothing is made smaller, and no device can be taken out of a member again. Of members
of different sizes the smallest master bounds the filesystem.`,
		Args: atLeast(1, "one device or more"),
		RunE: func(c *cobra.Command, args []string) error {
			if g.add != "" && len(args) > 1 {
				return usageError("--add NEWDEVICE is for one member at a time, and %d are given (DEVICE:DEVICE is one)", len(args))
			}
			for _, word := range args {
				if st, err := os.Stat(word); err == nil && st.IsDir() {
					return usageError("%s is a directory: anvilfs node grow MNT NODE grows a member of a mount", word)
				}
				if err := growDevice(c, word, g); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&g.add, "add", "", "a device that becomes a part of the member")
	c.Flags().BoolVarP(&g.force, "force", "f", false, "use that device even if it carries a filesystem")
	c.Flags().BoolVar(&g.asJSON, "json", false, "print JSON, one object for each device")
	return c
}

// A grownMember says what a member is after growing.
type grownMember struct {
	Version int    `json:"output_version"`
	Device  string `json:"device"` // as it was named
	From    uint64 `json:"from_bytes"`
	To      uint64 `json:"to_bytes"`
	Added   string `json:"added,omitempty"`  // the device that is a part of it now
	Member  string `json:"member,omitempty"` // what its name is now
}

// growMounted has a mount grow one of its members.
func growMounted(c *cobra.Command, dir, node string, g growth) error {
	words := []string{"node", "grow", node}
	if g.add != "" {
		device, err := additionTo(g.add, g.force)
		if err != nil {
			return err
		}
		words = append(words, "--add", device)
	}
	for flag, given := range map[string]bool{"-f": g.force, "--json": g.asJSON} {
		if given {
			words = append(words, flag)
		}
	}
	return relay(c, dir, words...)
}

// growDevice grows the volume on a member, by the mount that has it if there is one.
func growDevice(c *cobra.Command, word string, g growth) error {
	ctx := c.Context()
	m, err := parseMember(word)
	if err != nil {
		return err
	}
	devs, err := m.open(false)
	if errors.Is(err, filedev.ErrInUse) {
		if dir, node, ok := m.nodeOn(ctx); ok {
			return growMounted(c, dir, node, g)
		}
		return m.inUse(ctx, err)
	}
	if err != nil {
		return err
	}
	return m.grow(ctx, devs, g, c.OutOrStdout())
}

// grow grows the volume on the devices of a member that is not mounted.
func (m member) grow(ctx context.Context, devs []ondisk.Device, g growth, w io.Writer) (err error) {
	opened := false // by chain, which then closes them
	defer func() {
		for i := 0; !opened && i < len(devs); i++ {
			err = errors.Join(err, devs[i].Close())
		}
	}()
	r := grownMember{Version: 1, Device: m.name}
	if g.add != "" {
		more, err := parseMember(g.add)
		if err != nil {
			return err
		}
		if r.Added, r.Member, err = m.with(more); err != nil {
			return err
		}
	}
	o := chain.Options{Grow: true, Writer: ondisk.NewUUID()}
	if g.add != "" {
		if o.Add, err = openAddition(ctx, devs, g); err != nil {
			return err
		}
	}
	opened = true
	v, err := chain.Open(ctx, devs, o)
	if err != nil {
		return explain(err)
	}
	r.To = v.Header().Size()
	r.From = r.To - v.Grown()
	return errors.Join(r.print(w, g.asJSON), v.Close())
}

// with is the member after a device was added: which one that is, and its name.
func (m member) with(more member) (added, name string, err error) {
	switch {
	case len(more.paths) > 1:
		return "", "", usageError("%s: a member is grown by one device at a time", more.name)
	case slices.Contains(m.paths, more.paths[0]):
		return "", "", fmt.Errorf("%s is a part of %s already", more.name, m.name)
	}
	return more.name, m.name + ":" + more.name, nil
}

// openAddition opens the device that is to become a part of the member on devs.
func openAddition(ctx context.Context, devs []ondisk.Device, g growth) (ondisk.Device, error) {
	more, err := parseMember(g.add)
	if err != nil {
		return nil, err
	}
	path := more.paths[0]
	d, err := filedev.Open(path, filedev.Options{})
	if err != nil || g.force {
		return d, err
	}
	set, err := media.Open(devs)
	if err == nil && !chain.LeftOver(set.Header(), d) {
		var found string
		if found, err = probe(path); found != "" {
			err = carries(path, cluster.Labelled(ctx, found, []ondisk.Device{d}))
		}
	}
	if err != nil {
		return nil, errors.Join(explain(err), d.Close())
	}
	return d, nil
}

func (r *grownMember) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return rawjson.Write(w, r, "")
	}
	w = advice.Lines(w)
	if r.From == r.To && strings.Contains(r.Device, ":") {
		fmt.Fprintf(w, "%s has the size of its devices: %s; only the last of them can become larger\n", r.Device, human(r.To))
	} else if r.From == r.To {
		fmt.Fprintf(w, "%s has the size of its device: %s\n", r.Device, human(r.To))
	} else {
		fmt.Fprintf(w, "%s has %s now, %s before\n", r.Device, human(r.To), human(r.From))
	}
	if r.Member != "" {
		fmt.Fprintf(w, "it is %s now: name it so in mounts and fstab from now on\n", r.Member)
	}
	return nil
}

// growNode grows a member of the mount.
func (c *controller) growNode(ctx context.Context, name string, words []string, w io.Writer) error {
	for _, n := range c.pool.Status().Nodes {
		if n.Fsid == name {
			name = n.Name
		}
	}
	r := grownMember{Version: 1, Device: name}
	grow := func() (uint64, uint64, error) { return c.pool.NodeGrow(ctx, name) }
	if i := slices.Index(words, "--add"); i >= 0 {
		if i+1 == len(words) {
			return errors.New("the device to be added is missing")
		}
		m, err := c.newcomer(words[i+1], name)
		if err != nil {
			return err
		}
		if r.Added, r.Member, err = (member{name: name, paths: c.seen.paths(name)}).with(m); err != nil {
			return err
		}
		add := cluster.Addition{Name: r.Added, Force: slices.Contains(words, "-f"), Open: func(context.Context) (ondisk.Device, error) {
			return filedev.Open(m.paths[0], filedev.Options{})
		}}
		grow = func() (uint64, uint64, error) { return c.pool.NodeExtend(ctx, name, add) }
	}
	grown, size, err := grow()
	c.care.retryNow()
	if grown > 0 {
		c.log.Info("a member was grown", "node", name, "from", size-grown, "to", size, "added", r.Added)
	}
	if err != nil {
		return err
	}
	r.From, r.To = size-grown, size
	asJSON := slices.Contains(words, "--json")
	if err := r.print(w, asJSON); err != nil || asJSON {
		return err
	}
	if r.Member != "" {
		name = r.Member
	}
	for _, n := range c.pool.Status().Nodes {
		if n.Name == name {
			fmt.Fprintln(w, describeNode(&n, c.server.Dir))
		}
	}
	return nil
}

// additionTo names the device that is to become a part of a member of a mount by
// its full path. What a growth that was cut off left on it only the mount knows.
func additionTo(text string, force bool) (string, error) {
	m, err := parseMember(text)
	if err != nil {
		return "", err
	}
	if !force {
		found, err := signatureOf(m.paths[0])
		if err != nil {
			return "", err
		}
		if found != "" && !strings.HasPrefix(found, signature.Hammer2) {
			return "", carries(m.paths[0], found)
		}
	}
	return newDevice(text, true)
}
