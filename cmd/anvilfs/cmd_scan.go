package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cmd/advice"
	"github.com/anvilfs/anvilfs/ondisk/rawjson"
)

// scanVersion is the output_version of scan.
const scanVersion = 1

// A scanReport is what a scan found.
type scanReport struct {
	Version     int           `json:"output_version"`
	Filesystems []*foundFS    `json:"filesystems"`
	Mounted     []mountedHere `json:"mounted"`
	Others      []scanned     `json:"others"` // volumes that nothing is known of
	Unread      []string      `json:"unread"` // what could not be read, and why
	looked      int
	devices     bool // those of this machine were looked at
}

// A scanned is a volume, and why it is not known what is on it.
type scanned struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// A mountedHere is a mount, and its members that a scan met.
type mountedHere struct {
	Dir    string   `json:"directory"`
	Source string   `json:"source"`
	Names  []string `json:"names"`
}

func scanCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "scan [DEVICE|DIRECTORY]...",
		Short: "Find filesystems: which devices belong together, and how to mount them",
		Long: `Scan looks at all block devices of this machine, or at those that are named, at
image files, and at all files of a directory. It lists each filesystem with the
copies that are there, says which of its members are missing, and how to mount it.
It changes nothing.

What it finds on block devices can be mounted without naming them:
anvilfs mount @LABEL DIRECTORY`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := scanFor(c.Context(), args)
			if err != nil {
				return err
			}
			if !asJSON {
				r.print(c.OutOrStdout())
				return r.verdict()
			}
			if err := rawjson.Write(c.OutOrStdout(), &r, "  "); err != nil {
				return err
			}
			return r.verdict()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	return c
}

// scanFor looks at what words name, at all block devices if there are none.
func scanFor(ctx context.Context, words []string) (*scanReport, error) {
	r := &scanReport{Version: scanVersion, Filesystems: []*foundFS{}, Mounted: []mountedHere{}, Others: []scanned{}, Unread: []string{}}
	paths, err := filesIn(words)
	if len(words) == 0 {
		r.devices = true
		paths, err = blockDevices("/")
	}
	if err != nil {
		return nil, err
	}
	members, unread := scan(ctx, paths)
	r.looked = len(paths)
	r.Filesystems = append(r.Filesystems, filesystems(members, lastSeen)...)
	for _, m := range members {
		switch {
		case m.on != nil:
			r.takeMounted(m.on, m.name)
		case m.err != nil:
			r.Others = append(r.Others, scanned{m.name, strings.TrimPrefix(m.err.Error(), m.name+": ")})
		case len(m.holds) == 0:
			r.Others = append(r.Others, scanned{m.name, "a volume without a filesystem: 'anvilfs pfs create' makes one"})
		}
	}
	for _, err := range unread {
		r.Unread = append(r.Unread, err.Error())
	}
	return r, ctx.Err()
}

func (r *scanReport) takeMounted(on *mountEntry, name string) {
	at := slices.IndexFunc(r.Mounted, func(m mountedHere) bool { return m.Dir == on.target })
	if at < 0 {
		at = len(r.Mounted)
		r.Mounted = append(r.Mounted, mountedHere{Dir: on.target, Source: on.source})
	}
	r.Mounted[at].Names = append(r.Mounted[at].Names, name)
}

// lastSeen is where a mount of this machine had a node, "" if none had.
func lastSeen(clid, fsid string) string {
	s := openSightings(clid, "", slog.New(slog.DiscardHandler))
	if was, ok := s.known[fsid]; ok {
		return was.String()
	}
	return ""
}

// verdict is an error if nothing was found.
func (r *scanReport) verdict() error {
	switch {
	case len(r.Filesystems)+len(r.Mounted)+len(r.Others) > 0:
		return nil
	case len(r.Unread) > 0:
		return fmt.Errorf("no filesystem was found, but %d of %d devices or files could not be read: %s", len(r.Unread), r.looked, strings.Join(r.Unread, ", "))
	case r.devices:
		return fmt.Errorf("no filesystem is on the %d block devices of this machine: name image files, or directories of them", r.looked)
	}
	return fmt.Errorf("no filesystem is on what was named (%d files and devices)", r.looked)
}

// named are the filesystems that a mount would find by a name.
func (r *scanReport) named(name string) (list []*foundFS) {
	for _, f := range r.Filesystems {
		if f.members() && (f.Label == name || f.ID == name) {
			list = append(list, f)
		}
	}
	return list
}

func (r *scanReport) print(w io.Writer) {
	w = advice.Lines(w)
	for i, f := range r.Filesystems {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s: %s\n", advice.Printable(f.Label), f.headline())
		how := f.Source
		if r.devices {
			if how = "@" + escapeLabel(f.Label); len(r.named(f.Label)) > 1 {
				how = "@" + f.ID
			}
		}
		if f.members() {
			fmt.Fprintf(w, "  type    anvilfs mount %s DIRECTORY\n", advice.Quote(how))
		}
		if f.members() && how != f.Source {
			fmt.Fprintf(w, "  or      anvilfs mount %s DIRECTORY\n", advice.Quote(f.Source))
		}
		fmt.Fprintf(w, "  id      %s\n", f.ID)
		f.nodes().print(w)
	}
	var lines []string
	for _, m := range r.Mounted {
		lines = append(lines, fmt.Sprintf("%s is mounted on %s: %s", m.Source, m.Dir, strings.Join(m.Names, ", ")))
	}
	for _, o := range r.Others {
		lines = append(lines, o.Name+": "+o.Why)
	}
	if err := r.verdict(); err == nil { // else it says the same
		for _, text := range r.Unread {
			lines = append(lines, "not looked at: "+text)
		}
	}
	if len(r.Filesystems) > 0 && len(lines) > 0 {
		fmt.Fprintln(w)
	}
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
}

// nodes is the table of the copies, and of those that are missing.
func (f *foundFS) nodes() *table {
	t := newTable("  NODE", "ROLE", "TID", "AT", "STATE")
	for i := range f.Nodes {
		n := &f.Nodes[i]
		at := "-"
		if n.When != nil {
			at = n.When.Local().Format("2006-01-02 15:04:05")
		}
		t.row("  "+n.Name, n.Role, n.T.String(), at, n.State)
	}
	for i := range f.Missing {
		n := &f.Missing[i]
		state := n.State
		if n.Name != "" {
			state += "; it was " + n.Name
		}
		t.row("  ?", n.Role, "-", "-", state)
	}
	return t
}
