package main

import "testing"

// TestLikeName: a device that comes to a mount is named as the members are.
func TestLikeName(t *testing.T) {
	for _, c := range []struct{ device, other, want string }{
		{"/home/disks/d", "a", "d"},
		{"/home/disks/d", "/dev/sdb", "/home/disks/d"},
		{"/home/disks/d", "a:/dev/sdb", "d"},
		{"/home/disks/d:/home/disks/sub/e", "a", "d:sub/e"},
		{"/dev/sdb", "a", "/dev/sdb"},
		{"/home/disks/d:/dev/sdb", "a", "/home/disks/d:/dev/sdb"},
		{"/home/disks2/d", "a", "/home/disks2/d"},
		{`/home/disks/a\:b`, "a", `a\:b`},
		{`/home/disks/..d`, "a", `..d`},
		{"/home/disks/d", "", "d"},
	} {
		if got := likeName(c.device, c.other, "/home/disks"); got != c.want {
			t.Errorf("likeName(%q, %q) is %q, want %q", c.device, c.other, got, c.want)
		}
	}
}
