package mutate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Mutation is one breakage of the product's code.
type Mutation struct {
	Name  string
	Rule  string // what it breaks, in words
	File  string // from the root of the tree: a file, or the folder of a package
	After string // unique text before Old; "" if Old is unique
	Old   string
	New   string
	Test  Test
}

// A Test is what must notice: a package and a pattern, or a number of the
// regression tree.
type Test struct {
	Pkg, Run string
	Check    string // "" = Pkg and Run
}

func (t Test) String() string {
	if t.Check != "" {
		return "tests/check " + t.Check
	}
	return fmt.Sprintf("go test %s -run %s", t.Pkg, t.Run)
}

// Parse reads a list. Errors name the line.
func Parse(text string) ([]Mutation, error) {
	var all []Mutation
	names := make(map[string]bool)
	var m Mutation
	for i, line := range strings.Split(text+"\n", "\n") {
		key, value, _ := strings.Cut(line, " ")
		value = strings.TrimLeft(value, " ")
		bad := func(format string, args ...any) error {
			return fmt.Errorf("line %d: %s", i+1, fmt.Sprintf(format, args...))
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		if line == "" {
			if m == (Mutation{}) {
				continue
			}
			if err := m.complete(); err != nil {
				return nil, bad("%v", err)
			}
			if names[m.Name] {
				return nil, bad("%s is there twice", m.Name)
			}
			names[m.Name] = true
			all = append(all, m)
			m = Mutation{}
			continue
		}
		field, ok := map[string]*string{"name": &m.Name, "rule": &m.Rule, "file": &m.File,
			"after": &m.After, "old": &m.Old, "new": &m.New}[key]
		switch {
		case key == "test":
			words := strings.Fields(value)
			if len(words) != 2 {
				return nil, bad("test takes a package and a pattern, or check and a number")
			}
			m.Test = Test{Pkg: words[0], Run: words[1]}
			if words[0] == "check" {
				m.Test = Test{Check: words[1]}
			}
		case !ok:
			return nil, bad("no field %q", key)
		case *field != "":
			return nil, bad("%s is given twice", key)
		default:
			*field = value
		}
	}
	return all, nil
}

func (m *Mutation) complete() error {
	for what, s := range map[string]string{"name": m.Name, "rule": m.Rule, "file": m.File, "old": m.Old,
		"new": m.New, "test": m.Test.Run + m.Test.Check} {
		if s == "" {
			return fmt.Errorf("%q lacks its %s", m.Name, what)
		}
	}
	if strings.HasSuffix(m.File, "_test.go") || strings.HasPrefix(m.File, "tests/") {
		return fmt.Errorf("%s breaks a test, not the product", m.Name)
	}
	return nil
}

// Broken finds the file and returns it with the mutation. root is the tree's.
func (m *Mutation) Broken(root string) (file, text string, err error) {
	unique := m.Old
	if m.After != "" {
		unique = m.After
	}
	files, err := m.files(root)
	if err != nil {
		return "", "", err
	}
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", "", err
		}
		if k := strings.Count(string(b), unique); k > 0 {
			n += k
			file, text = f, string(b)
		}
	}
	if n != 1 {
		return "", "", fmt.Errorf("%s: %q is in %s %d times, not once: bring the list up to date", m.Name, unique, m.File, n)
	}
	head := ""
	if m.After != "" {
		at := strings.Index(text, m.After) + len(m.After)
		head, text = text[:at], text[at:]
	}
	before, behind, ok := strings.Cut(text, m.Old)
	if !ok {
		return "", "", fmt.Errorf("%s: %q is not in %s behind %q: bring the list up to date", m.Name, m.Old, m.File, m.After)
	}
	return file, head + before + m.New + behind, nil
}

// files are those the text may be in: one, or those of a package.
func (m *Mutation) files(root string) ([]string, error) {
	path := filepath.Join(root, m.File)
	if filepath.Ext(path) == ".go" {
		return []string{path}, nil
	}
	all, err := filepath.Glob(filepath.Join(path, "*.go"))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(f string) bool { return strings.HasSuffix(f, "_test.go") }), nil
}

// Some are those of day's turn, about n, spread over the whole list: in
// len(all)/n days each has its turn.
func Some(all []Mutation, n, day int) []Mutation {
	turns := max(len(all)/n, 1)
	var some []Mutation
	for i := range all {
		if i%turns == day%turns {
			some = append(some, all[i])
		}
	}
	return some
}
