package mutate

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/tests/bar"
)

var (
	onlyFlag = flag.String("only", "", "try the mutations whose names match")
	allFlag  = flag.Bool("all", false, "try all of them")

	listed = bar.Goal{What: "breakages listed", Quick: 60, Test: 60, Nightly: 60}
	caught = bar.Goal{What: "breakages noticed by their test", Quick: 1, Test: 10, Nightly: 60}
)

func list(t *testing.T) (root string, all []Mutation) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("list.txt")
	if err != nil {
		t.Fatal(err)
	}
	if all, err = Parse(string(text)); err != nil {
		t.Fatalf("list.txt: %v", err)
	}
	return root, all
}

// Every breakage can be applied to the code as it is now.
func TestListFits(t *testing.T) {
	root, all := list(t)
	for i := range all {
		if _, _, err := all[i].Broken(root); err != nil {
			t.Error(err)
		}
	}
	listed.Check(t, len(all))
}

// turn chooses what is tried in this run.
func turn(t *testing.T, all []Mutation) []Mutation {
	t.Helper()
	switch {
	case *onlyFlag != "":
		re, err := regexp.Compile(*onlyFlag)
		if err != nil {
			t.Fatal(err)
		}
		var some []Mutation
		for _, m := range all {
			if re.MatchString(m.Name) {
				some = append(some, m)
			}
		}
		return some
	case *allFlag || bar.Of(t) == bar.Nightly:
		first := 0
		if _, bounded := bar.Long(t); bounded { // what comes last may have no turn: another part each day
			first = time.Now().YearDay() * 31 % len(all)
			t.Logf("beginning with %s", all[first].Name)
		}
		return slices.Concat(all[first:], all[:first])
	}
	day := time.Now().YearDay()
	some := Some(all, caught.N(t), day)
	if bar.Of(t) == bar.Quick {
		some = some[:1]
	}
	t.Logf("day %d: %d of %d", day, len(some), len(all))
	return some
}

func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles much")
	}
	root, all := list(t)
	r := &Runner{Root: root, Dir: t.TempDir()}
	some := turn(t, all)
	start, n := time.Now(), 0
	for i := range some {
		if caught.Over(t, start, n) {
			t.Logf("time is up after %d of %d", i, len(some))
			break
		}
		if noticed(t, r, &some[i]) {
			n++
		}
	}
	if *onlyFlag == "" {
		caught.Check(t, n)
	}
}

// noticed tries one breakage, and says how that went.
func noticed(t *testing.T, r *Runner, m *Mutation) bool {
	t.Helper()
	begin := time.Now()
	how, err := r.Try(t.Context(), m)
	switch {
	case errors.Is(err, ErrSkipped):
		t.Logf("%v", err)
	case err != nil:
		t.Error(err)
	default:
		t.Logf("%s: noticed in %v: %s", m.Name, time.Since(begin).Round(100*time.Millisecond), how)
	}
	return err == nil
}

func TestParse(t *testing.T) {
	const good = "name a\nrule r\nfile x.go\nold  1\nnew  2\ntest ./p TestX\n"
	all, err := Parse("# words\n\n" + good + "\n\n" + strings.Replace(good, "name a", "name b\nafter y", 1))
	if err != nil || len(all) != 2 || all[0].Old != "1" || all[1].After != "y" || all[0].Test != (Test{Pkg: "./p", Run: "TestX"}) {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, bad := range []string{
		good + "\n" + good, "name a\n", "nonsense\n", good + "old 3\n",
		strings.Replace(good, "TestX", "", 1), strings.Replace(good, "x.go", "x_test.go", 1),
	} {
		if all, err := Parse(bad); err == nil {
			t.Errorf("%q passed as %+v", bad, all)
		}
	}
}

func TestBroken(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"x.go": "one\ntwo\none\n", "y.go": "three\n", "y_test.go": "two\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ after, old, want string }{
		{"", "two", "one\nX\none\n"}, {"two", "one", "one\ntwo\nX\n"},
		{"", "one", ""}, {"", "four", ""}, {"two", "two", ""}, {"one", "two", ""},
	} {
		for _, file := range []string{"x.go", "."} {
			m := Mutation{Name: "m", File: file, After: c.after, Old: c.old, New: "X"}
			in, got, err := m.Broken(root)
			if got != c.want || (err != nil) != (c.want == "") || err == nil && filepath.Base(in) != "x.go" {
				t.Errorf("%q after %q in %s: %q in %s, %v", c.old, c.after, file, got, in, err)
			}
		}
	}
}

// In as many days as there are turns each mutation comes up, and each day
// enough of them.
func TestSome(t *testing.T) {
	all := make([]Mutation, 77)
	for i := range all {
		all[i].Name = string(rune('0' + i))
	}
	seen := make(map[string]bool)
	for day := range 7 {
		some := Some(all, 10, day)
		if len(some) < 10 {
			t.Errorf("day %d: %d", day, len(some))
		}
		for _, m := range some {
			seen[m.Name] = true
		}
	}
	if len(seen) != len(all) {
		t.Errorf("%d of %d have a turn", len(seen), len(all))
	}
}
