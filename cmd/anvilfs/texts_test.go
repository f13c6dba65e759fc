package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// hole stands in a text for what only a run knows.
const hole = "\x00"

// notCommands are words that follow the name of the program where it is none of
// its commands that is meant.
var notCommands = strings.Fields("at filesystem has never shadow writes")

// otherTexts are for nobody to read.
var otherTexts = map[string]string{
	"anvilfs snapshot":                       "what the id of a snapshot is made of",
	`(anvilfs (?:[a-z-]+ )+)MNT\b( NODE\b)?`: "finds commands in texts",
}

// eachFile shows the source of all rooms, tests apart.
func eachFile(t *testing.T, look func(fset *token.FileSet, f *ast.File)) {
	t.Helper()
	for _, dir := range []string{"cmd", "fs", "cluster", "sync", "chain", "ondisk"} {
		err := filepath.WalkDir("../../"+dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err == nil {
				look(fset, f)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCommandsInTexts: a command that a text names exists, with its flags; and
// where it is for somebody who has to act, it can be typed as it stands: with the
// name of the program, and with MNT, which gets the mount point, behind it.
func TestCommandsInTexts(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)
	texts := 0
	eachFile(t, func(fset *token.FileSet, f *ast.File) {
		for _, text := range textsIn(f) {
			if texts++; otherTexts[text.words] != "" {
				continue
			}
			for _, fault := range faultsIn(root, text) {
				t.Errorf("%v: %s: %q", fset.Position(text.pos), fault, strings.ReplaceAll(text.words, hole, "..."))
			}
		}
	})
	if texts < 1000 {
		t.Errorf("only %d texts were found", texts)
	}
}

// TestCommandsInDocs is the same of what the documents print as commands.
func TestCommandsInDocs(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, path := range append(paths, "../../README.md") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		code := regexp.MustCompile("`[^`]+`")
		for i, line := range strings.Split(string(b), "\n") {
			list := code.FindAllString(line, -1)
			if strings.HasPrefix(line, "    ") {
				list = []string{line}
			}
			for _, words := range list {
				commands += strings.Count(words, "anvilfs ")
				for _, fault := range faultsIn(root, saidText{words: strings.Trim(words, "`"), help: true}) {
					t.Errorf("%s:%d: %s: %s", path, i+1, fault, words)
				}
			}
		}
	}
	if commands < 150 {
		t.Errorf("only %d commands were found", commands)
	}
}

// The tests above see what cannot be typed, and nothing else.
func TestFaultsInTexts(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)
	for _, c := range []struct {
		words, fault string
		help         bool
	}{
		{words: "anvilfs node online MNT NODE merges it, anvilfs node discard MNT NODE gives it up"},
		{words: "mount -t fuse.anvilfs and fstab work: anvilfs fsck --repair " + hole},
		{words: "no anvilfs filesystem is mounted here"},
		{words: "node grow " + hole + ": it is offline"},
		{words: "the snapshot policy was not carried out"},
		{words: "anvilfs scrub start --wait " + hole + "   (anvilfs errors list " + hole + " names files)"},
		{words: "it is offline: node online brings it back", fault: "node online without the name of the program"},
		{words: "anvilfs node online brings it back", fault: "anvilfs node online without MNT"},
		{words: "anvilfs node online brings it back", help: true},
		{words: "see 'anvilfs frobnicate'", fault: `anvilfs has no command "frobnicate"`},
		{words: "anvilfs snapshot frobnicate MNT", fault: "anvilfs snapshot takes a word of its own", help: true},
		{words: "adopt or discard that (anvilfs node)", fault: "anvilfs node takes a word of its own"},
		{words: "anvilfs fsck --mend " + hole, fault: "anvilfs fsck has no flag --mend"},
		{words: "anvilfs scrub pause MNT -t 10", fault: "anvilfs scrub pause has no flag -t", help: true},
		{words: "anvilfs scrub pause /mnt    # resume -t 10", help: true},
	} {
		if got := strings.Join(faultsIn(root, saidText{words: c.words, help: c.help}), "; "); got != c.fault {
			t.Errorf("%q: %q, want %q", c.words, got, c.fault)
		}
	}
}

// A saidText is a text of the program.
type saidText struct {
	pos   token.Pos
	words string
	help  bool // of a command: what it tells of others is not to be typed as it stands
}

var verbs = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)

// textsIn are the texts of a file. What is put together with + is one.
func textsIn(f *ast.File) (list []saidText) {
	var helps []ast.Expr
	var walk func(n ast.Node) bool
	walk = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.ValueSpec:
			if n.Names[0].Name == "controlHelp" { // of the control file, which is of one mount
				return false
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok && slices.Contains([]string{"Use", "Short", "Long", "Example"}, key.Name) {
				helps = append(helps, n.Value)
			}
		case *ast.CallExpr: // the verbs of "anvilfs node"
			if len(n.Args) == 2 && slices.Contains([]string{"command", "node"}, called(n)) {
				if text := literal(n.Args[0]); strings.Trim(text, hole) != "" {
					list = append(list, saidText{pos: n.Pos(), words: "anvilfs node " + text + " " + hole + " " + hole + literal(n.Args[1])})
				}
			}
		case *ast.BinaryExpr, *ast.BasicLit:
			if text := literal(n.(ast.Expr)); strings.Trim(text, hole) != "" {
				help := slices.ContainsFunc(helps, func(e ast.Expr) bool { return e.Pos() <= n.Pos() && n.End() <= e.End() })
				list = append(list, saidText{n.Pos(), text, help})
				return false
			}
		}
		return true
	}
	ast.Inspect(f, walk)
	return list
}

func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// literal is a text with holes; a hole alone where there is none.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return verbs.ReplaceAllString(text, hole)
		}
	case *ast.ParenExpr:
		return literal(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return literal(e.X) + literal(e.Y)
		}
	}
	return hole
}

// bareCommand finds a command of a group, with the name of the program before it or not.
func bareCommand(root *cobra.Command) *regexp.Regexp {
	var list []string
	for _, group := range root.Commands() {
		for _, sub := range group.Commands() {
			list = append(list, group.Name()+" "+sub.Name())
		}
	}
	return regexp.MustCompile(`\b(` + strings.Join(list, "|") + `)\b`)
}

var (
	// program is its name where a command may follow, not a type of filesystem, a
	// helper of mount(8), or a path.
	program = regexp.MustCompile(`(?:^|[^-./#\w])anvilfs `)
	ofType  = regexp.MustCompile(`-t $`)
	// ends is where a command ends that stands in a sentence.
	ends = regexp.MustCompile(`[,;:.] |[)'|;` + "`" + `]| #|   |&&|[.,:;]$`)
	// prefixes are what follows a command with which an error begins.
	prefixes = regexp.MustCompile(`^($|:| ` + hole + `| takes )`)
)

// faultsIn are the commands of a text that cannot be typed.
func faultsIn(root *cobra.Command, text saidText) (list []string) {
	flat := strings.ReplaceAll(text.words, "\n", " ")
	for _, at := range program.FindAllStringIndex(flat, -1) {
		if ofType.MatchString(flat[:at[0]+1]) {
			continue
		}
		words := flat[at[1]:]
		if end := ends.FindStringIndex(words); end != nil {
			words = words[:end[0]]
		}
		if fault := faultOf(root, words, text.help); fault != "" {
			list = append(list, fault)
		}
	}
	if text.help {
		return list
	}
	for _, at := range bareCommand(root).FindAllStringIndex(flat, -1) {
		before, after := flat[:at[0]], flat[at[1]:]
		if before == "" && prefixes.MatchString(after) || strings.HasSuffix(before, "anvilfs ") || strings.HasSuffix(before, "; "+hole+" ") || strings.HasSuffix(before, "the ") {
			continue
		}
		list = append(list, flat[at[0]:at[1]]+" without the name of the program")
	}
	return list
}

// faultOf is what is wrong with a command; "" if it can be typed, or is none.
func faultOf(root *cobra.Command, words string, help bool) string {
	fields := strings.Fields(words)
	c := root
	for len(fields) > 0 && c.HasSubCommands() {
		name := strings.Trim(fields[0], `"`)
		if strings.HasPrefix(name, "-") && c == root || strings.Contains(name, hole) || name == "" {
			return ""
		}
		next, _, err := c.Find([]string{name})
		if err != nil || next == c {
			if c != root {
				break
			}
			if slices.Contains(notCommands, name) {
				return ""
			}
			return fmt.Sprintf("anvilfs has no command %q", name)
		}
		c, fields = next, fields[1:]
	}
	if c.HasSubCommands() {
		if help && len(fields) == 0 || c == root {
			return ""
		}
		return c.CommandPath() + " takes a word of its own"
	}
	if !help && strings.HasPrefix(c.Use, c.Name()+" MNT") {
		i := slices.IndexFunc(fields, func(f string) bool { return !strings.HasPrefix(f, "-") })
		if i < 0 || fields[i] != "MNT" && !strings.Contains(fields[i], hole) {
			return c.CommandPath() + " without MNT"
		}
	}
	for _, f := range fields {
		name, _, _ := strings.Cut(f, "=")
		switch {
		case name == "--help", name == "-h":
		case strings.HasPrefix(name, "--") && c.Flags().Lookup(name[2:]) == nil,
			len(name) == 2 && name[0] == '-' && c.Flags().ShorthandLookup(name[1:]) == nil:
			return fmt.Sprintf("%s has no flag %s", c.CommandPath(), name)
		}
	}
	return ""
}
