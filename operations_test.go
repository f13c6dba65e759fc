package anvilfs_test

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// shortTexts are what a program says with hardly a word of its own: where else
// the reader is sent.
var shortTexts = map[string]string{
	"cmd/advice/advice.go: \x00 is \x00.":       "a state without advice; the table of states has them all",
	"cmd/advice/advice.go: \x00 is \x00: \x00.": "likewise",
}

// toldWhole are files of which every error and every printed line has a row.
var toldWhole = []string{"cmd/anvilfs/branchdiscard.go", "cmd/anvilfs/mountover.go", "cluster/growwatch.go", "sync/scrub/verify.go"}

// TestOperatorTextsAreDocumented: whatever status can say is a row of a table in
// docs/operations.md, in its words: all parts of the text that do not depend on
// the mount stand in one first cell, in their order. A text that cannot be read
// from the source is an error, so that none passes by being built elsewhere.
func TestOperatorTextsAreDocumented(t *testing.T) {
	cells := firstCells(t)
	texts := 0
	for _, s := range sources(t) {
		states(t, &s, cells)
		if slices.Contains(toldWhole, s.path) {
			texts += lines(t, &s, cells)
		}
		if strings.HasSuffix(s.path, "_test.go") || !strings.HasPrefix(s.path, "cmd/") || strings.HasPrefix(s.path, "cmd/doctor/") {
			continue // what doctor says of the machine has its remedy beside it
		}
		for _, decl := range s.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			for _, said := range saidIn(fn) {
				if passesOn(fn, said) {
					continue
				}
				list := readText(fn, said, 0)
				if len(list) == 0 {
					t.Errorf("%v: what is said here cannot be read from the source", s.fset.Position(said.Pos()))
				}
				for _, text := range list {
					texts++
					if shortTexts[s.path+": "+strings.ReplaceAll(text, "\x00\x00", "\x00")] == "" && !documented(cells, text) {
						t.Errorf("%v: no row of docs/operations.md begins with %q", s.fset.Position(said.Pos()),
							strings.ReplaceAll(text, "\x00", "..."))
					}
				}
			}
		}
	}
	if texts < 40 {
		t.Errorf("only %d texts were found", texts)
	}
}

// saidIn are the expressions of a function that status shows as what is wrong:
// the second argument of adviser.add, and the field What of advice and findings.
func saidIn(fn *ast.FuncDecl) (list []ast.Expr) {
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "add" && (len(n.Args) == 5 || len(n.Args) == 3) {
				list = append(list, n.Args[1])
			}
		case *ast.CompositeLit:
			name := ""
			switch typ := n.Type.(type) {
			case *ast.Ident:
				name = typ.Name
			case *ast.SelectorExpr:
				name = typ.Sel.Name
			}
			if name != "Advice" && name != "Finding" {
				break
			}
			for i, e := range n.Elts {
				switch e := e.(type) {
				case *ast.KeyValueExpr:
					if key, ok := e.Key.(*ast.Ident); ok && key.Name == "What" {
						list = append(list, e.Value)
					}
				default:
					if i == 1 {
						list = append(list, e)
					}
				}
			}
		}
		return true
	})
	return list
}

// passesOn reports whether a text was read where it came from: the field What of
// something else, or what add was called with.
func passesOn(fn *ast.FuncDecl, e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name == "What"
	case *ast.Ident:
		return fn.Name.Name == "add" && e.Name == "what"
	}
	return false
}

var verb = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)

// readText returns what an expression can be, with \x00 where something that
// only the mount knows stands; nil if it cannot be read.
func readText(fn *ast.FuncDecl, e ast.Expr, depth int) []string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return []string{text}
		}
	case *ast.ParenExpr:
		return readText(fn, e.X, depth)
	case *ast.BinaryExpr:
		var list []string
		for _, a := range orHole(readText(fn, e.X, depth)) {
			for _, b := range orHole(readText(fn, e.Y, depth)) {
				list = append(list, a+b)
			}
		}
		return list
	case *ast.CallExpr:
		if sel, ok := e.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sprintf" {
			var list []string
			for _, text := range readText(fn, e.Args[0], depth) {
				list = append(list, verb.ReplaceAllString(text, "\x00"))
			}
			return list
		}
	case *ast.Ident: // a variable: whatever the function gives it
		var list []string
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			as, ok := n.(*ast.AssignStmt)
			if !ok || depth > 3 {
				return true
			}
			for i, left := range as.Lhs {
				if id, ok := left.(*ast.Ident); !ok || id.Name != e.Name || len(as.Rhs) != len(as.Lhs) {
					continue
				}
				for _, text := range readText(fn, as.Rhs[i], depth+1) {
					if as.Tok == token.ADD_ASSIGN {
						text = "\x00" + text // behind any of the others
					}
					list = append(list, text)
				}
			}
			return true
		})
		return list
	}
	return nil
}

func orHole(list []string) []string {
	if len(list) == 0 {
		return []string{"\x00"}
	}
	return list
}

// firstCells are the first cells of all rows of tables.
func firstCells(t *testing.T) (cells []string) {
	t.Helper()
	text, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(line, "|"); len(f) > 3 && f[0] == "" {
			cells = append(cells, strings.Join(strings.Fields(f[1]), " "))
		}
	}
	return cells
}

// documented reports whether a cell has all parts of a text in their order. Of a
// text with fewer than ten letters of its own there has to be nothing else.
func documented(cells []string, text string) bool {
	var parts []string
	letters := 0
	for _, p := range strings.Split(text, "\x00") {
		if p = strings.Trim(strings.Join(strings.Fields(p), " "), " .,:;()\""); p == "" {
			continue
		}
		parts = append(parts, p)
		letters += len(p)
	}
	if letters < 10 { // words that are in many cells
		if len(parts) != 1 || letters == 0 {
			return false
		}
		whole := regexp.MustCompile(`(^|; )[A-Z]+ ` + regexp.QuoteMeta(parts[0]) + `(: [A-Z]+)?(;|$)`)
		return slices.ContainsFunc(cells, whole.MatchString)
	}
	// The whole text, not the beginning of a longer one that says something else.
	pattern := `(^|; )`
	segments := strings.Split(text, "\x00")
	for i, p := range segments {
		if i > 0 {
			pattern += `.*`
		}
		pattern += regexp.QuoteMeta(strings.Trim(strings.Join(strings.Fields(p), " "), " .,:;()\""))
	}
	if strings.Trim(segments[len(segments)-1], ".\n") != "" {
		pattern += `[)"]*(;|$)`
	}
	return slices.ContainsFunc(cells, regexp.MustCompile(pattern).MatchString)
}

// lines checks all that a file makes errors of, or prints.
func lines(t *testing.T, s *source, cells []string) (texts int) {
	t.Helper()
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		at, is := map[string]int{"Errorf": 0, "New": 0, "Fprintf": 1}[selName(sel, ok)]
		if pkg, isName := selPkg(sel, ok); !is || !isName || pkg != "errors" && pkg != "fmt" {
			return true
		}
		lit, ok := call.Args[at].(*ast.BasicLit)
		if !ok {
			if _, name := call.Args[at].(*ast.Ident); !name { // what somebody else said
				t.Errorf("%v: what is said here cannot be read from the source", s.fset.Position(call.Pos()))
			}
			return true
		}
		text, _ := strconv.Unquote(lit.Value)
		for line := range strings.Lines(verb.ReplaceAllString(text, "\x00")) {
			if texts++; strings.ContainsFunc(line, unicode.IsLetter) && !strings.HasPrefix(line, " ") && !documented(cells, line) {
				t.Errorf("%v: no row of docs/operations.md begins with %q", s.fset.Position(lit.Pos()), strings.ReplaceAll(line, "\x00", "..."))
			}
		}
		return true
	})
	return texts
}

func selName(sel *ast.SelectorExpr, ok bool) string {
	if !ok {
		return ""
	}
	return sel.Sel.Name
}

func selPkg(sel *ast.SelectorExpr, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return id.Name, true
}

// states checks that each state, and each event, is a row by itself.
func states(t *testing.T, s *source, cells []string) {
	t.Helper()
	events := s.path == "cmd/events/event.go"
	for _, decl := range s.file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec)
			typ, _ := v.Type.(*ast.Ident)
			if !events && (typ == nil || typ.Name != "NodeState" && typ.Name != "CacheState" && typ.Name != "Health") {
				continue
			}
			for _, value := range v.Values {
				lit, ok := value.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				word, _ := strconv.Unquote(lit.Value)
				if !slices.ContainsFunc(cells, func(c string) bool {
					return c == word || slices.Contains(strings.Split(c, ", "), "`"+word+"`") || c == "`"+strings.TrimPrefix(word, "cache-")+"`"
				}) {
					t.Errorf("%v: %q is no row of docs/operations.md", s.fset.Position(lit.Pos()), word)
				}
			}
		}
	}
}
