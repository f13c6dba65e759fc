package merge

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "store the decisions as golden")

var stateOf = map[string]State{"absent": Absent, "same": Same, "changed": Changed}

// TestDecide runs testdata/decide.txt. A case is a line
//
//	inode ours=changed theirs=same [equal] [minor] -> apply
//	name base=a ours=b theirs=- [loses] [alike] -> apply
//
// where - is nothing, and letters are inodes.
func TestDecide(t *testing.T) {
	const path = "testdata/decide.txt"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cases := 0
	for line := range strings.Lines(string(text)) {
		in, want, ok := strings.Cut(strings.TrimSpace(line), " -> ")
		if !ok {
			out.WriteString(line)
			continue
		}
		cases++
		got := decide(t, in).String()
		if got != want && !*rewrite {
			t.Errorf("%s -> %s, not %s", in, got, want)
		}
		fmt.Fprintf(&out, "%s -> %s\n", in, got)
	}
	if cases < 30 {
		t.Fatalf("only %d cases", cases)
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func decide(t *testing.T, in string) Verdict {
	words := strings.Fields(in)
	is := make(map[string]bool)
	value := make(map[string]string)
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			value[k] = v
		} else {
			is[w] = true
		}
	}
	number := func(s string) uint64 {
		if s == "-" {
			return 0
		}
		return uint64(s[0])
	}
	switch words[0] {
	case "inode":
		return Content(stateOf[value["ours"]], stateOf[value["theirs"]], is["equal"], is["minor"])
	case "name":
		return Name(number(value["base"]), number(value["ours"]), number(value["theirs"]), is["loses"], is["alike"])
	}
	t.Fatalf("case %q", in)
	return 0
}
