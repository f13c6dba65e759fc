package anvilfs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// longFunctions and longFiles are the exceptions to the bounds below, each
// with its reason.
var (
	longFunctions = map[string]string{
		"tests/bench/meta.go:metadata":     "the phases of one workload, in order",
		"tests/bench/meta.go:bigDirectory": "likewise",
		"tests/bench/stream.go:random":     "likewise",
		"tests/bench/real.go:realLife":     "a list of programs, run one after the other",
	}
	longFiles = map[string]string{
		"chain/walk.go":          "one iterator and its pair form",
		"cluster/engine_loop.go": "one loop, and what only its goroutine may do",
		"cluster/pool_test.go":   "one suite",
	}
)

const (
	maxFunction = 70  // lines
	maxFile     = 400 // lines, of code that is not a test
)

// rank orders the rooms: a room may import those of a lower rank.
var rank = map[string]int{"ondisk": 0, "chain": 1, "cluster": 2, "sync": 3, "fs": 3, "cmd": 4, "tests": 5}

const module = "github.com/anvilfs/anvilfs/"

type source struct {
	path string
	file *ast.File
	fset *token.FileSet
	text string
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() != "." && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{path, f, fset, string(text)})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found: the walk is broken", len(all))
	}
	return all
}

func TestArrows(t *testing.T) {
	for _, s := range sources(t) {
		from, ok := rank[strings.Split(s.path, "/")[0]]
		if !ok || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		for _, i := range s.file.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if !strings.HasPrefix(path, module) {
				continue
			}
			room := strings.Split(strings.TrimPrefix(path, module), "/")[0]
			if to := rank[room]; to > from || to == from && room != strings.Split(s.path, "/")[0] {
				t.Errorf("%s imports %s: arrows point from cmd over fs, cluster and chain to ondisk", s.path, path)
			}
		}
	}
}

func TestNamesOfPackages(t *testing.T) {
	bad := regexp.MustCompile(`^(util|utils|common|helpers?|misc|base|types)$`)
	for _, s := range sources(t) {
		if bad.MatchString(s.file.Name.Name) {
			t.Errorf("%s: package %s says nothing about what it gives", s.path, s.file.Name.Name)
		}
	}
}

func TestLengths(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		if n := strings.Count(s.text, "\n"); n > maxFile && longFiles[s.path] == "" {
			t.Errorf("%s has %d lines, more than %d: it tells more than one story", s.path, n, maxFile)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line
			if name := s.path + ":" + f.Name.Name; n > maxFunction && longFunctions[name] == "" {
				t.Errorf("%s has %d lines, more than %d", name, n, maxFunction)
			}
		}
	}
}

// Symptom: a name that is no UTF-8 was another one in JSON: each place that wrote some
// had to know which of its texts have names in them.
func TestJSONKeepsNames(t *testing.T) {
	for _, s := range sources(t) {
		dir := filepath.ToSlash(filepath.Dir(s.path))
		if strings.HasSuffix(s.path, "_test.go") || dir == "ondisk/rawjson" || dir == "ondisk/golden" || strings.HasPrefix(dir, "tests/") {
			continue
		}
		for _, i := range s.file.Imports {
			if i.Path.Value == `"encoding/json"` {
				t.Errorf("%s writes or reads JSON by itself: ondisk/rawjson keeps names that are no UTF-8", s.path)
			}
		}
	}
}

func TestErrnoOnlyAtTheEdge(t *testing.T) {
	for _, s := range sources(t) {
		room := strings.Split(s.path, "/")[0]
		if room != "chain" && room != "cluster" && room != "sync" || strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Errno" {
				t.Errorf("%s uses an errno: those belong to fs and cmd", s.path)
			}
			return true
		})
	}
}

func TestDecodersAreFuzzed(t *testing.T) {
	fuzzed := make(map[string]bool)
	var decoders []string
	for _, s := range sources(t) {
		dir := filepath.Dir(s.path)
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			switch name := f.Name.Name; {
			case strings.HasPrefix(name, "Fuzz"):
				fuzzed[dir+"."+strings.TrimPrefix(name, "Fuzz")] = true
			case strings.HasPrefix(name, "Decode"):
				decoders = append(decoders, dir+"."+name)
			}
		}
	}
	if len(decoders) < 8 {
		t.Fatalf("only %d decoders found", len(decoders))
	}
	for _, d := range decoders {
		if !fuzzed[d] {
			t.Errorf("%s has no fuzz target", d)
		}
	}
}

func TestNothingUnfinished(t *testing.T) {
	mark := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for _, s := range sources(t) {
		for _, g := range s.file.Comments {
			if mark.MatchString(g.Text()) {
				t.Errorf("%s: %s", s.fset.Position(g.Pos()), strings.TrimSpace(g.Text()))
			}
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	allowed := map[string]string{
		"cluster/engine_harness_test.go": "runs the real engine, whose members keep their own time",
		"fs":                             "kernel and mounts keep their own time",
		"ondisk/filedev":                 "waits for a lock held by another open file",
		"tests":                          "real mounts and disks",
		"cmd":                            "other processes",
		"ondisk/faultdev":                "delays and hangs are what it is for",
	}
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.path, "_test.go") || allowed[s.path] != "" || allowed[filepath.Dir(s.path)] != "" || allowed[strings.Split(s.path, "/")[0]] != "" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
				t.Errorf("%s: a test that sleeps is slow or flaky", s.fset.Position(n.Pos()))
			}
			return true
		})
	}
}
