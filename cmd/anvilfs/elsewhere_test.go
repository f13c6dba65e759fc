package main

import (
	"errors"
	"os/exec"
	"testing"
)

// A place that only one look finds is of a program that is being started.
func TestElsewhereIsFoundTwice(t *testing.T) {
	t.Parallel()
	for name, stays := range map[string]bool{"a moment": false, "for good": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := exec.Command("sleep", "60")
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
			end, err := watchProcess(server.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			defer end.Close()
			looks := 0
			err = end.wait(t.Context(), server.Process.Pid, func() []string {
				if looks++; looks == 2 && !stays {
					_ = server.Process.Kill()
					return nil
				}
				return []string{"a place"}
			})
			if errors.As(err, new(elsewhereError)) != stays || !stays && err != nil || looks != 2 {
				t.Fatalf("after %d looks: %v", looks, err)
			}
		})
	}
}

func TestAnotherMountOfThatNumber(t *testing.T) {
	gone := mountEntry{dev: "0:44", source: "/a,/b@HOME", target: "/mnt"}
	for _, m := range []mountEntry{
		{dev: "0:44", source: "/c,/d@HOME"},
		{dev: "0:45", source: "/a,/b@HOME"},
	} {
		if m.is(&gone) {
			t.Errorf("%s of %s is taken for %s of %s", m.source, m.dev, gone.source, gone.dev)
		}
	}
	if bound := (mountEntry{dev: gone.dev, source: gone.source, target: "/srv"}); !bound.is(&gone) {
		t.Error("a bind mount is not found")
	}
}
