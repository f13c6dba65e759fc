package faultdev

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/devicetest"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
	"golang.org/x/sys/unix"
)

// Without rules it is the device it wraps.
func TestDevice(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) (ondisk.Device, func() ondisk.Device) {
		m := memdev.New(devicetest.Size)
		return New(m), func() ondisk.Device { m.Reopen(); return New(m) }
	})
}

// Each case writes 8 bytes at 4096, then reads them, under one rule.
func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		rule      Rule
		name      string
		writeErr  error
		readErr   error
		read      string
		elsewhere string // 8 bytes at 8192
	}{
		{Rule{On: Write}, "fail write 1", ErrFault, nil, "........", "........"},
		{Rule{On: Read, Nth: 1, Err: boom}, "fail read 1", nil, boom, "", "........"},
		{Rule{Do: Torn, Arg: 3, On: Write}, "tear after 3 bytes write 1", ErrFault, nil, "abc.....", "........"},
		{Rule{Do: Misdirect, Arg: 4096, On: Write}, "misdirect by +4096 bytes write 1", nil, nil, "........", "abcdefgh"},
		{Rule{Do: Lose, On: Write}, "lose write 1", nil, nil, "........", "........"},
		{Rule{Do: Flip, Arg: 1, On: Write}, "flip bit 1 of write 1", nil, nil, "cbcdefgh", "........"},
		{Rule{Do: Flip, Arg: 9, On: Read, Beg: 4096, End: 4104}, "flip bit 9 of read 1 in [0x1000, 0x1008)", nil, nil, "a`cdefgh", "........"},
		{Rule{Do: Full, On: Write, Times: Always}, "no space for every write", unix.ENOSPC, nil, "........", "........"},
		{Rule{On: Write, Nth: 2, Times: 3}, "fail write 2 to 4", nil, nil, "abcdefgh", "........"},
		{Rule{On: Any, Nth: 2, Times: Always}, "fail request 2 and all later ones", nil, ErrFault, "", ""},
		{Rule{On: Write, Beg: 0, End: 4096}, "fail write 1 in [0x0, 0x1000)", nil, nil, "abcdefgh", "........"},
		{Rule{Do: Delay, Arg: int64(time.Second), On: Write}, "delay by 1s write 1", nil, nil, "abcdefgh", "........"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.rule.String(); got != c.name {
				t.Errorf("prints itself as %q", got)
			}
			d := New(memdev.New(1<<20), c.rule)
			var slept time.Duration
			d.Sleep = func(n time.Duration) { slept += n }
			if _, err := d.WriteAt([]byte("abcdefgh"), 4096); !errors.Is(err, c.writeErr) {
				t.Errorf("write: %v, want %v", err, c.writeErr)
			}
			p := make([]byte, 8)
			if _, err := d.ReadAt(p, 4096); !errors.Is(err, c.readErr) {
				t.Errorf("read: %v, want %v", err, c.readErr)
			}
			if got := dots(p); c.read != "" && got != c.read {
				t.Errorf("read %q, want %q", got, c.read)
			}
			if _, err := d.ReadAt(p, 8192); err == nil && dots(p) != c.elsewhere {
				t.Errorf("at 8192: %q, want %q", dots(p), c.elsewhere)
			}
			if c.rule.Do == Delay && slept != time.Second {
				t.Errorf("slept %v", slept)
			}
		})
	}
}

func dots(p []byte) string { return strings.ReplaceAll(string(p), "\x00", ".") }

func TestHang(t *testing.T) {
	d := New(memdev.New(1<<20), Rule{Do: Hang, On: Flush})
	done := make(chan error)
	go func() { done <- d.Flush() }()
	for d.Hung() == 0 {
		select {
		case err := <-done:
			t.Fatalf("did not hang: %v", err)
		default:
		}
	}
	if err := d.Flush(); err != nil {
		t.Errorf("the next flush: %v", err)
	}
	d.Release()
	if err := <-done; err != nil {
		t.Errorf("released: %v", err)
	}
	if log := d.Log(); len(log) != 1 || !strings.HasPrefix(log[0], "hang flush 1: flush") {
		t.Errorf("log %q", log)
	}
	if n := d.Count(Any); n != 2 {
		t.Errorf("%d requests counted", n)
	}
}
