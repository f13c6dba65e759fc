package main

import (
	"slices"
	"strings"
	"testing"
)

func TestPersonality(t *testing.T) {
	for _, c := range []struct{ argv, want string }{
		{"anvilfs status /mnt", "status /mnt"},
		{"anvilfs --version", "--version"},
		{"anvilfs status /a 5", "status /a 5"},
		{"anvilfs a.img@HOME /mnt -o ro", "mount a.img@HOME /mnt -o ro"},
		{"/usr/bin/anvilfs /dev/sdb /mnt", "mount /dev/sdb /mnt"},
		{"/sbin/mount.fuse.anvilfs a,b@L /mnt -s -n -o rw,nofail", "mount a,b@L /mnt --sloppy -o rw,nofail"},
		{"/sbin/mount.anvilfs a@L /mnt -fnv -t anvilfs -o ro", "mount a@L /mnt --fake -o ro"},
		{"mount.fuseblk.anvilfs /dev/sdb /mnt", "mount /dev/sdb /mnt"},
		{"umount.fuse.anvilfs /mnt -nlvr", "umount /mnt -l"},
		{"umount.anvilfs /mnt -f -t fuse.anvilfs", "umount /mnt"},
		{"mkfs.anvilfs -V -L X a", "newfs -L X a"},
		{"mkfs.anvilfs -f -s 10g a b", "newfs -f -s 10g a b"},
		{"fsck.anvilfs -a -C0 -T /dev/sdb", "fsck /dev/sdb"},
		{"fsck.fuse.anvilfs -pfn a b", "fsck a b"},
		{"fsck.anvilfs --json a", "fsck --json a"},
		{"fsck.anvilfs -y a", "fsck -y a"},
		{"fsck.anvilfs -fy a", "fsck -y a"},
		{"mount.ext4 a b", "a b"},
	} {
		argv := strings.Fields(c.argv)
		if got := strings.Join(personality(argv), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.argv, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	for _, words := range [][]string{
		{"sync"}, {"node", "offline", "/dev/disk/by id/x"}, {"a", "", `b"c\`, "tab\tnewline\n"}, {"ünïcode"},
	} {
		got, err := splitWords(joinWords(words))
		if err != nil || !slices.Equal(got, words) {
			t.Errorf("%q becomes %q, then %q (%v)", words, joinWords(words), got, err)
		}
	}
	if _, err := splitWords(`a "b`); err == nil {
		t.Error("an open quotation passed")
	}
}
