package manual

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Section is that of programs for administrators.
const Section = 8

// Extra is what a page has that the command tree does not know.
type Extra struct {
	Exit  [][2]string // exit codes and their meaning
	Files [][2]string
	Also  []string // other pages, as "mount(8)"
}

// A Page is one man page.
type Page struct {
	Name string // of the file, without the section
	Roff string
}

// Pages are those of root and all commands below it. extra is asked by the
// words of a command, as in "node replace"; "" is root's.
func Pages(root *cobra.Command, version string, extra func(words string) Extra) []Page {
	var list []Page
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		words := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), root.Name()), " ")
		list = append(list, Page{Name: pageName(c), Roff: render(c, version, extra(words))})
		for _, sub := range shown(c) {
			walk(sub)
		}
	}
	walk(root)
	return list
}

// Alias is a page that shows another one.
func Alias(name, target string) Page {
	return Page{Name: name, Roff: fmt.Sprintf(".so man%d/%s.%d\n", Section, target, Section)}
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// shown are the commands that users are to see.
func shown(c *cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, sub := range c.Commands() {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			list = append(list, sub)
		}
	}
	return list
}

func render(c *cobra.Command, version string, x Extra) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s %d \"\" \"anvilfs %s\" \"anvilfs\"\n", strings.ToUpper(escape(pageName(c))), Section, escape(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escape(pageName(c)), escape(c.Short))
	b.WriteString(".SH SYNOPSIS\n")
	if c.HasParent() && !c.HasSubCommands() {
		fmt.Fprintf(&b, ".B %s\n%s\n", escape(c.CommandPath()), escape(strings.TrimPrefix(c.UseLine(), c.CommandPath()+" ")))
	} else {
		fmt.Fprintf(&b, ".B %s\nCOMMAND ...\n", escape(c.CommandPath()))
	}
	b.WriteString(".SH DESCRIPTION\n")
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	text(&b, long)
	if subs := shown(c); len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range subs {
			fmt.Fprintf(&b, ".TP\n.BR %s (%d)\n%s.\n", escape(pageName(sub)), Section, escape(sub.Short))
		}
	}
	flags(&b, c)
	table(&b, "EXIT STATUS", x.Exit)
	table(&b, "FILES", x.Files)
	also := slices.Clone(x.Also)
	if c.HasParent() {
		also = append([]string{fmt.Sprintf("%s(%d)", pageName(c.Parent()), Section)}, also...)
	}
	if len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n")
		for i, page := range also {
			name, section, _ := strings.Cut(page, "(")
			comma := ","
			if i == len(also)-1 {
				comma = ""
			}
			fmt.Fprintf(&b, ".BR %s (%s%s\n", escape(name), section, comma)
		}
	}
	return b.String()
}

// text writes paragraphs, and as they are the lines that are indented.
func text(b *strings.Builder, s string) {
	literal := false
	set := func(on bool) {
		switch {
		case on && !literal:
			b.WriteString(".PP\n.nf\n")
		case !on && literal:
			b.WriteString(".fi\n")
		}
		literal = on
	}
	for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		switch indented := strings.HasPrefix(line, "  "); {
		case line == "":
			set(false)
			b.WriteString(".PP\n")
		default:
			set(indented)
			b.WriteString(escape(line) + "\n")
		}
	}
	set(false)
}

func flags(b *strings.Builder, c *cobra.Command) {
	begun := false
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		if !begun {
			b.WriteString(".SH OPTIONS\n")
			begun = true
		}
		value, usage := pflag.UnquoteUsage(f)
		names := "--" + f.Name
		if f.Shorthand != "" {
			names = "-" + f.Shorthand + ", " + names
		}
		if value != "" {
			if value == "string" || value == "stringArray" {
				value = "word"
			}
			names += " " + strings.ToUpper(value)
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s", escape(names), escape(usage))
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "0s" && !strings.Contains(usage, "(") {
			fmt.Fprintf(b, " (%s)", escape(d))
		}
		b.WriteString("\n")
	})
}

func table(b *strings.Builder, title string, rows [][2]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	for _, r := range rows {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", escape(r[0]), escape(r[1]))
	}
}

// escape makes a line that roff takes as text.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
