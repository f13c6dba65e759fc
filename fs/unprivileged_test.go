package fs

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUserWords(t *testing.T) {
	for _, c := range []struct {
		flags uintptr
		want  string
		fails string
	}{
		{0, "", ""},
		{syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_RELATIME, "", ""},
		{syscall.MS_NOEXEC | syscall.MS_NOATIME | syscall.MS_SYNCHRONOUS, "noexec sync noatime", ""},
		{syscall.MS_NOEXEC | unix.MS_LAZYTIME, "", "lazytime"},
		{syscall.MS_MANDLOCK, "", "0x40"},
	} {
		words, err := userWords(c.flags)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%#x: %v, want an error with %s", c.flags, err, c.fails)
			}
			continue
		}
		if got := strings.Join(words, " "); err != nil || got != c.want {
			t.Errorf("%#x: %q %v, want %q", c.flags, got, err, c.want)
		}
	}
}

func TestUserError(t *testing.T) {
	broken := errors.New("exit status 1")
	got := userError("/bin/f", "f: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf", broken)
	if errors.Is(got, broken) || !strings.Contains(got.Error(), "leave it out") {
		t.Error(got)
	}
	if got := userError("/bin/f", "f: something new", broken); !errors.Is(got, broken) || !strings.Contains(got.Error(), "something new") {
		t.Error(got)
	}
}
