package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Symptom: a wrong value of a flag was answered with "strconv.ParseInt: parsing".
func TestFlagErrors(t *testing.T) {
	var all func(c *cobra.Command)
	tried := 0
	try := func(where string, err error, f *pflag.Flag) {
		t.Helper()
		text := flagError(err).Error()
		if errors.As(err, new(*pflag.InvalidValueError)) && (!strings.Contains(text, "--"+f.Name+" takes ") || strings.Contains(text, "strconv") || !strings.Contains(text, `"x x"`)) {
			t.Errorf("%s: %s", where, text)
		}
	}
	all = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "string" || strings.HasSuffix(f.Value.Type(), "Slice") || strings.HasSuffix(f.Value.Type(), "Array") {
				return
			}
			tried++
			try(c.CommandPath(), c.Flags().Set(f.Name, "x x"), f)
			if err := c.Flags().Set(f.Name, "x x"); err == nil {
				t.Errorf("%s --%s takes anything", c.CommandPath(), f.Name)
			}
		})
		for _, child := range c.Commands() {
			all(child)
		}
	}
	all(newRoot(new(strings.Builder), new(strings.Builder)))
	if tried < 50 {
		t.Errorf("%d flags", tried)
	}
	for words, want := range map[string]string{
		"wait resync --timeout 5":      `--timeout takes a time like 30s, 5m or 2h, not "5": see anvilfs wait --help`,
		"wait resync /x --timeout -5s": `--timeout takes a time like 30s, 5m or 2h, not "-5s"`,
		"dedup /x --tranquility 99":    "--tranquility takes 0 (no rest) to 10 (mostly rest), not 99",
	} {
		var out, errOut strings.Builder
		code := run(t.Context(), append([]string{"anvilfs"}, strings.Fields(words)...), &out, &errOut)
		if code != exitUsage || errOut.String() != "anvilfs: "+want+"\n" {
			t.Errorf("%s: %d, %q", words, code, errOut.String())
		}
	}
}
