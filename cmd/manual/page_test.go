package manual

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func tree() *cobra.Command {
	root := &cobra.Command{Use: "tool", Short: "Does things"}
	group := &cobra.Command{Use: "node", Short: "Nodes"}
	leaf := &cobra.Command{Use: "replace MNT NODE", Short: "Put another in its place", Run: func(*cobra.Command, []string) {},
		Long: "First words.\n\n  as it is\n  .twice\n\n.dot at the begin\nback\\slash"}
	leaf.Flags().BoolP("force", "f", false, "do it anyway")
	leaf.Flags().String("size", "10g", "a `size` of it")
	leaf.Flags().String("secret", "", "for tests")
	if err := leaf.Flags().MarkHidden("secret"); err != nil {
		panic(err)
	}
	group.AddCommand(leaf)
	root.AddCommand(group, &cobra.Command{Use: "hidden", Hidden: true, Short: "x"})
	return root
}

func TestPages(t *testing.T) {
	pages := Pages(tree(), "v1", func(words string) Extra {
		if words == "node replace" {
			return Extra{Exit: [][2]string{{"0", "done"}}, Files: [][2]string{{"/etc/x-y", "settings"}}, Also: []string{"mount(8)"}}
		}
		return Extra{}
	})
	var names []string
	for _, p := range pages {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "tool tool-node tool-node-replace" {
		t.Fatalf("pages %s", got)
	}
	const want = `.TH TOOL\-NODE\-REPLACE 8 "" "anvilfs v1" "anvilfs"
.SH NAME
tool\-node\-replace \- Put another in its place
.SH SYNOPSIS
.B tool node replace
MNT NODE [flags]
.SH DESCRIPTION
First words.
.PP
.PP
.nf
  as it is
  .twice
.fi
.PP
\&.dot at the begin
back\eslash
.SH OPTIONS
.TP
.B \-f, \-\-force
do it anyway
.TP
.B \-\-size SIZE
a size of it (10g)
.SH EXIT STATUS
.TP
.B 0
done
.SH FILES
.TP
.B /etc/x\-y
settings
.SH SEE ALSO
.BR tool\-node (8),
.BR mount (8)
`
	if got := pages[2].Roff; got != want {
		t.Errorf("got\n%s", got)
	}
	if !strings.Contains(pages[1].Roff, ".BR tool\\-node\\-replace (8)\nPut another in its place.\n") || strings.Contains(pages[0].Roff, "hidden") {
		t.Errorf("commands:\n%s\n%s", pages[0].Roff, pages[1].Roff)
	}
	if got := Alias("mount.tool", "tool-mount").Roff; got != ".so man8/tool-mount.8\n" {
		t.Errorf("alias %q", got)
	}
}
