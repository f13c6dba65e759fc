package cluster

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the results of the tables in testdata; look at the difference")

// runTable runs every case of a text table: comment lines, one line with the
// case, a line of dashes, the result up to an empty line.
func runTable(t *testing.T, name string, run func(input string) string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for i, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		head, want, _ := strings.Cut(block, "\n----\n")
		head = strings.TrimSuffix(head, "\n----")
		lines := strings.Split(head, "\n")
		input := lines[len(lines)-1]
		got := run(input)
		if got != want && !*rewrite {
			t.Errorf("case %d, %s:\n%s\nwant:\n%s", i+1, input, got, want)
		}
		if i > 0 {
			out.WriteString("\n")
		}
		out.WriteString(head + "\n----\n" + got + "\n")
	}
	if *rewrite {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
