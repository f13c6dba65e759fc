package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/chain"
	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
)

type newfs struct {
	label  string
	comp   string
	check  string
	size   string
	slaves []string
	soft   []string
	laptop []string
	caches []string // one at most, which the source says
	force  bool
	quiet  bool
	dryRun bool
}

func newfsCommand() *cobra.Command {
	var n newfs
	c := &cobra.Command{
		Use:   "newfs [-L LABEL] [-s SIZE] MEMBER... [--slave MEMBER] [--soft-slave MEMBER] [--soft-master MEMBER] [--cache DEVICE]",
		Short: "Make a filesystem: one volume on each member, one cluster of them all",
		Long: `Makes one HAMMER2 volume on each member and a filesystem LABEL that has a full
copy on every one of them. A member is a block device or an image file; with
-s, files that do not exist are created. DEV:DEV is one volume over several
devices.

Members given as arguments are masters: they vote, and writing goes on while
more than half of them are there. A --slave follows and has no vote. So does a
--soft-slave, which may be away for long; alone, it can be mounted read-only, as
of the time when it left. A --soft-master can be changed then, too: its changes
are merged when it is back. A --cache is no copy: on it, blocks are kept that were
read from the others; it is for a device that is much faster than they are.

What already carries a filesystem, a partition table or the like is refused
unless -f is given.`,
		Args: atLeast(1, "at least one MEMBER"),
		RunE: func(c *cobra.Command, args []string) error {
			return n.run(c.Context(), c.OutOrStdout(), args)
		},
	}
	f := c.Flags()
	f.StringVarP(&n.label, "label", "L", "DATA", "label of the filesystem")
	f.StringVar(&n.comp, "compression", "lz4", "for all files: none, autozero, lz4 or zlib")
	f.StringVar(&n.check, "check", "xxhash64", "check codes: iscsi32, xxhash64 or sha192")
	f.StringVarP(&n.size, "size", "s", "", "create image files of this size, like 10g")
	f.StringArrayVar(&n.slaves, "slave", nil, "a member that follows without a vote")
	f.StringArrayVar(&n.soft, "soft-slave", nil, "a member that may be away, and can be read alone")
	f.StringArrayVar(&n.laptop, "soft-master", nil, "a member that may be away, and be changed there")
	f.StringArrayVar(&n.caches, "cache", nil, "a fast device that keeps what was read from the members")
	f.BoolVarP(&n.force, "force", "f", false, "overwrite what is there")
	f.BoolVarP(&n.quiet, "quiet", "q", false, "print nothing unless it fails")
	f.BoolVarP(&n.dryRun, "dry-run", "n", false, "check everything, write nothing")
	return c
}

// A newMember is a member to be made.
type newMember struct {
	member
	role    ondisk.PFSType
	created []string // files that did not exist
	devs    []ondisk.Device
	result  *chain.FormatResult
}

func (n *newfs) run(ctx context.Context, out io.Writer, masters []string) (err error) {
	if out = advice.Lines(out); n.quiet {
		out = io.Discard
	}
	list, err := n.plan(masters)
	if err != nil {
		return err
	}
	if n.dryRun {
		for _, m := range list {
			fmt.Fprintf(out, "%s: would become a %v of %s\n", m.name, m.role, n.label)
		}
		return nil
	}
	defer func() {
		for _, m := range list {
			for _, d := range m.devs {
				err = errors.Join(err, d.Close())
			}
			if err != nil {
				for _, p := range m.created {
					_ = os.Remove(p) // best effort: it holds nothing
				}
			}
		}
	}()
	if err := n.openAll(ctx, list); err != nil {
		return err
	}
	members := slices.DeleteFunc(slices.Clone(list), func(m *newMember) bool { return m.cache })
	clid, err := n.format(ctx, members)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.cache {
			if m.result, err = cluster.FormatCache(ctx, m.devs, n.label, clid, time.Now()); err != nil {
				return err
			}
		}
	}
	return n.report(out, list)
}

// refuseOwnLabel refuses what scan would not find, as it takes it for no filesystem.
func refuseOwnLabel(label string) error {
	if chain.OwnLabel(label) {
		return usageError("a PFS %q is no filesystem, but what a volume has beside those: choose another label", label)
	}
	return nil
}

// plan checks everything that can be checked without writing.
func (n *newfs) plan(masters []string) ([]*newMember, error) {
	all := slices.Concat(masters, n.slaves, n.soft, n.laptop)
	for _, c := range n.caches {
		all = append(all, cachePrefix+c)
	}
	s, err := parseSource(strings.Join(all, ","))
	if err != nil {
		return nil, err
	}
	if s.label != "" {
		return nil, usageError("%s: the label goes behind -L, not behind an @", s.text)
	}
	if err := refuseOwnLabel(n.label); err != nil {
		return nil, err
	}
	var list []*newMember
	for i, m := range s.members {
		nm := &newMember{member: m, role: ondisk.PFSMaster}
		switch follows := i - len(masters); {
		case m.cache:
			nm.role = ondisk.PFSCache
		case follows >= len(n.slaves)+len(n.soft):
			nm.role = ondisk.PFSSoftMaster
		case follows >= len(n.slaves):
			nm.role = ondisk.PFSSoftSlave
		case follows >= 0:
			nm.role = ondisk.PFSSlave
		}
		for _, p := range m.paths {
			if err := n.checkPath(nm, p); err != nil {
				return nil, err
			}
		}
		list = append(list, nm)
	}
	return list, nil
}

func (n *newfs) checkPath(m *newMember, path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && n.size != "" && !strings.HasPrefix(path, "/dev/"):
		m.created = append(m.created, path)
		return nil
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s does not exist: check the path, or create an image file with -s SIZE", path)
	case err != nil:
		return err
	case st.IsDir():
		return fmt.Errorf("%s is a directory: give a block device or an image file", path)
	case n.force:
		return nil
	}
	return refuseForeign(path)
}

// openAll opens every device before the first is written to, so that one that
// is in use stops the whole.
func (n *newfs) openAll(ctx context.Context, list []*newMember) error {
	var size int64
	if n.size != "" {
		var err error
		if size, err = parseSize(n.size); err != nil {
			return err
		}
	}
	for _, m := range list {
		for _, p := range m.paths {
			var o filedev.Options
			for _, c := range m.created {
				if c == p {
					o.Create = size
				}
			}
			d, err := filedev.Open(p, o)
			if errors.Is(err, filedev.ErrInUse) {
				err = member{name: p, paths: []string{p}}.inUse(ctx, err)
			}
			if err != nil {
				return err
			}
			m.devs = append(m.devs, d)
		}
	}
	return nil
}

// format makes the volumes of the members and joins them. clid is the cluster.
func (n *newfs) format(ctx context.Context, list []*newMember) (clid ondisk.UUID, err error) {
	spec := chain.PFSSpec{Label: n.label, Plain: true, Meta: rootOfUser(time.Now())}
	if err := n.methods(&spec); err != nil {
		return clid, err
	}
	writer, now := ondisk.NewUUID(), time.Now() // the roots are alike from the start
	var vols []*chain.Volume
	var roles []ondisk.PFSType
	defer func() {
		for _, v := range vols {
			err = errors.Join(err, v.Close())
		}
	}()
	for _, m := range list {
		spec.Type = m.role
		m.result, err = chain.Format(ctx, m.devs, chain.FormatOptions{Labels: []chain.PFSSpec{spec}, Writer: writer, Now: now})
		if err != nil {
			return clid, err
		}
	}
	if len(list) == 1 && list[0].role == ondisk.PFSMaster {
		return list[0].clid(n.label), nil // a filesystem of one copy needs no cluster
	}
	for _, m := range list {
		devs := m.devs
		m.devs = nil // the volume owns them, also if opening fails
		v, err := chain.Open(ctx, devs, chain.Options{Writer: writer})
		if err != nil {
			return clid, err
		}
		vols = append(vols, v)
		roles = append(roles, m.role)
	}
	newID := func() ondisk.UUID {
		id := ondisk.NewUUID()
		if clid.IsZero() {
			clid = id // the first is that of the cluster
		}
		return id
	}
	err = cluster.FoundWith(ctx, vols, n.label, roles, newID)
	return clid, err
}

// clid is the cluster id of the new PFS of that label.
func (m *newMember) clid(label string) (id ondisk.UUID) {
	for _, p := range m.result.PFSs {
		if p.Label == label {
			id = p.Clid
		}
	}
	return id
}

// rootOfUser is the root directory of a new filesystem: it belongs to who
// makes it, so that users can use image files of their own. It is the same on
// every member.
func rootOfUser(now time.Time) *ondisk.InodeMeta {
	m := ondisk.NewInodeMeta(ondisk.InumRoot, ondisk.ObjDir)
	m.Mode, m.UID, m.GID = 0o755, uint32(os.Geteuid()), uint32(os.Getegid())
	sec, nsec := now.Unix(), uint32(now.Nanosecond())
	m.SetCtime(sec, nsec)
	m.SetMtime(sec, nsec)
	m.SetBtime(sec, nsec)
	return &m
}

// methods sets what every file inherits from the root.
func (n *newfs) methods(spec *chain.PFSSpec) error {
	comp, err := ondisk.ParseCompMethod(n.comp)
	if err != nil {
		return usageError("--compression: %w", err)
	}
	check, err := ondisk.ParseCheckMethod(n.check)
	if err != nil {
		return usageError("--check: %w", err)
	}
	switch check {
	case ondisk.CheckISCSI32, ondisk.CheckXXHash64, ondisk.CheckSHA192:
	default:
		return usageError("--check %v: without a check code damage cannot be found; use iscsi32, xxhash64 or sha192", check)
	}
	spec.Comp, spec.Check = uint8(comp), uint8(check)
	return nil
}

// report prints what was made and how to go on.
func (n *newfs) report(out io.Writer, list []*newMember) error {
	t := newTable("MEMBER", "ROLE", "SIZE", "USABLE", "HEADERS", "VOLUME ID")
	names := make([]string, len(list))
	nMasters, copies := 0, 0
	for i, m := range list {
		names[i] = m.name
		if m.cache {
			names[i] = cachePrefix + m.name
		} else {
			copies++
		}
		if m.role == ondisk.PFSMaster {
			nMasters++
		}
		t.row(m.name, m.role.String(), human(m.result.Size), human(m.result.Room),
			fmt.Sprint(m.result.HeaderCopies), m.result.Fsid.String())
	}
	t.print(out)
	switch quorum := nMasters/2 + 1; {
	case copies == 1:
		fmt.Fprintf(out, "%s is one copy: damage is found, but cannot be repaired from another.\n", n.label)
	case nMasters == 2:
		fmt.Fprintf(out, "%s needs both masters for writing: a third would let one of them fail.\n", n.label)
	default:
		fmt.Fprintf(out, "%s can be written while %d of %d masters are there.\n", n.label, quorum, nMasters)
	}
	fmt.Fprint(out, layoutOfNew(list))
	source := strings.Join(names, ",") + "@" + escapeLabel(n.label)
	_, err := fmt.Fprintf(out, "Mount it with: anvilfs mount %s DIR\n", advice.Quote(source))
	return err
}
