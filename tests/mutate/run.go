package mutate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// testTime ends a test: a breakage may make it wait for ever.
const testTime = 90 * time.Second

// ErrSkipped: the test cannot run on this machine.
var ErrSkipped = errors.New("skipped here")

// A Runner tries mutations, also several at a time.
type Runner struct {
	Root string // of the tree
	Dir  string // for programs; its owner removes it

	checks sync.Mutex // tests of the regression tree go one by one: some look at all of the machine

	mu    sync.Mutex
	sound map[Test]func() error // what the test did without a mutation
}

// Try runs the test of m with and without it, and says what is wrong; nil:
// the test noticed. How tells, in a line, what it said.
func (r *Runner) Try(ctx context.Context, m *Mutation) (how string, err error) {
	file, broken, err := m.Broken(r.Root)
	if err != nil {
		return "", err
	}
	if err := r.withoutIt(ctx, m.Test)(); err != nil {
		return "", fmt.Errorf("%s: without it %v: %w", m.Name, m.Test, err)
	}
	dir, err := os.MkdirTemp(r.Dir, "broken")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	overlay, err := overlay(dir, file, broken)
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "program")
	if err := r.build(ctx, m.Test, program, "-overlay", overlay); err != nil {
		return "", fmt.Errorf("%s does not compile: %w", m.Name, err)
	}
	out, err := r.run(ctx, m.Test, program)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		return "", fmt.Errorf("%s was not noticed by %v: nothing keeps the rule that %s", m.Name, m.Test, m.Rule)
	}
	return complaint(out), nil
}

// withoutIt runs a test on the code as it is, once: who else asks waits for that.
func (r *Runner) withoutIt(ctx context.Context, t Test) func() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sound == nil {
		r.sound = make(map[Test]func() error)
	}
	if r.sound[t] == nil {
		r.sound[t] = sync.OnceValue(func() error { return r.passes(ctx, t) })
	}
	return r.sound[t]
}

// passes runs a test on the code as it is.
func (r *Runner) passes(ctx context.Context, t Test) error {
	dir, err := os.MkdirTemp(r.Dir, "sound")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	if err := r.build(ctx, t, program); err != nil {
		return err
	}
	out, err := r.run(ctx, t, program)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s", err, complaint(out))
	case t.Check != "" && strings.Contains(out, "1 skipped"):
		return ErrSkipped
	case t.Check == "" && strings.Contains(out, "no tests to run"):
		return errors.New("there is no such test")
	case t.Check == "" && strings.Contains(out, "--- SKIP") && !strings.Contains(out, "--- PASS"):
		return ErrSkipped
	}
	return nil
}

// overlay writes the broken file into dir, and what the compiler has to know of it.
func overlay(dir, file, broken string) (string, error) {
	instead := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(instead, []byte(broken), 0o644); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {file: instead}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o644)
}

// build makes the test program of a package, or anvilfs for the regression
// tree.
func (r *Runner) build(ctx context.Context, t Test, program string, flags ...string) error {
	words := append([]string{"test", "-c", "-vet=off", "-o", program}, flags...)
	if t.Check != "" {
		words = append([]string{"build", "-o", program}, flags...)
		words = append(words, "./cmd/anvilfs")
	} else {
		words = append(words, t.Pkg)
	}
	c := exec.CommandContext(ctx, "go", words...)
	c.Dir = r.Root
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w:\n%s", err, out)
	}
	return nil
}

// run runs the test with a program. A test that takes too long failed.
func (r *Runner) run(ctx context.Context, t Test, program string) (string, error) {
	if t.Check != "" {
		r.checks.Lock()
		defer r.checks.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, testTime+30*time.Second)
	defer cancel()
	var c *exec.Cmd
	if t.Check != "" {
		c = exec.CommandContext(ctx, filepath.Join(r.Root, "tests/check"), t.Check)
		c.Env = append(plainEnv(), "ANVILFS="+program, fmt.Sprintf("TEST_TIMEOUT=%.0f", testTime.Seconds()))
		c.Dir = r.Root
	} else {
		c = exec.CommandContext(ctx, program, "-test.v", "-test.timeout", testTime.String(), "-test.run", t.Run)
		c.Env = plainEnv()
		c.Dir = filepath.Join(r.Root, t.Pkg)
	}
	c.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

// plainEnv is the environment without what changes how deep tests go.
func plainEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "ANVILFS") {
			env = append(env, e)
		}
	}
	return env
}

// complaint is the first line in which a test says what is wrong.
func complaint(out string) string {
	best, rank := "", 0
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		r := 0
		switch {
		case strings.HasPrefix(line, "panic:"):
			r = 4
		case strings.Contains(line, "_test.go:") && !strings.Contains(line, " level="):
			r = 3
		case strings.HasPrefix(line, "+") && !strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "---"):
			r = 2
		case strings.HasPrefix(line, "FAIL"), strings.HasPrefix(line, "--- FAIL"):
			r = 1
		}
		if r > rank {
			best, rank = line, r
		}
	}
	if len(best) > 160 {
		best = best[:160] + "..."
	}
	return best
}
