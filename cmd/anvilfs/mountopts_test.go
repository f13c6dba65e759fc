package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/cluster"
)

func TestMountOptions(t *testing.T) {
	o, err := parseMountOptions([]string{
		"rw,nosuid,nodev,noatime,_netdev,nofail,x-systemd.device-timeout=30,default_permissions",
		"commit=0.5,memory=1g,quorum=eio,deadline=1m,wait=30,log=/tmp/a\\,b,ro,allow_other,dedup,nointentlog",
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	want := mountOptions{
		readOnly: true, allowOther: true, dedup: true, noLog: true, flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME,
		commit: 500 * time.Millisecond, deadline: time.Minute, wait: 30 * time.Second, memory: 1 << 30, quorum: cluster.EIO, logFile: "/tmp/a,b",
	}
	if o != want {
		t.Errorf("%+v, want %+v", o, want)
	}
	o, err = parseMountOptions([]string{"ro,noatime,nointentlog,remount,rw,intentlog,relatime,user_id=0,max_read=131072"}, false)
	if err != nil || o != (mountOptions{remount: true, flags: unix.MS_RELATIME}) {
		t.Errorf("later words do not win: %+v, %v", o, err)
	}
	for _, bad := range []string{
		"bogus", "bogus=1", "cache=x", "commit", "commit=0", "commit=-1", "commit=soon", "wait", "wait=0", "memory=1m", "memory=x",
		"quorum=maybe", "log=", "Ro", "memory",
		"commit=1e9", "commit=3601", "commit=0.05", "commit=nan", "deadline=0.5", "deadline=2h", "wait=61m", "wait=1ms",
		"scrub=1s", "scrub=9999d", "scrub=99999h", "scrub=0.001d", "memory=99t", "memory=-1", "memory=31m",
	} {
		_, err := parseMountOptions([]string{bad}, false)
		if err == nil {
			t.Errorf("%s passed", bad)
		} else if name, _, _ := strings.Cut(bad, "="); !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the message does not name it: %v", bad, err)
		} else if exitCode(err) != exitUsage {
			t.Errorf("%s: exit %d", bad, exitCode(err))
		}
	}
	if _, err := parseMountOptions([]string{"bogus,rw"}, true); err != nil {
		t.Errorf("sloppy: %v", err)
	}
	if _, err := parseMountOptions([]string{"commit=soon"}, true); err == nil || errors.Is(err, errUnknownOption) {
		t.Errorf("sloppy takes wrong values too: %v", err)
	}
}

// What is out of range names the option, what was given, and what may be.
func TestMountOptionRange(t *testing.T) {
	for word, want := range map[string]string{
		"commit=999999": "mount option commit: 999999 is out of range: write 0.1 to 3600 seconds",
		"deadline=0.5":  "mount option deadline: 0.5 is out of range: write 1 to 3600 seconds",
		"wait=2h":       "mount option wait: 2h is out of range: write 0.1 to 3600 seconds",
		"scrub=1s":      "mount option scrub: 1s is out of range: write 1h to 3650d",
	} {
		if _, err := parseMountOptions([]string{word}, false); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
	for _, word := range []string{"commit=0.1", "commit=1h", "deadline=1", "wait=3600", "scrub=3650d", "scrub=1h"} {
		if _, err := parseMountOptions([]string{word}, false); err != nil {
			t.Error(err)
		}
	}
	const has = 4000 << 20
	for n, want := range map[int64]string{
		has:           "",
		minMemory:     "",
		has + 1:       "N is more than there is: write 32m to 4000m, since the machine has 3.91 GiB",
		99 << 40:      "N is more than there is: write 32m to 4000m, since the machine has 3.91 GiB",
		minMemory - 1: "N is less than the 32 MiB that are needed",
	} {
		err := checkMemory("N", n, has, "the machine")
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && got != want {
			t.Errorf("%d bytes: %v, want %s", n, err, want)
		}
	}
	if err := checkMemory("N", 99<<40, 0, "the machine"); err != nil {
		t.Errorf("nobody knows how much there is: %v", err)
	}
}

// Symptom: state= in a directory that was not there made it, and the error of log= there
// did not say that it was about log=.
func TestMountOptionFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"log", "state"} {
		for path, want := range map[string]string{
			dir + "/nope/x": ": there is no directory " + dir + "/nope: make it, or name a file elsewhere",
			file + "/x":     ": " + file + " is no directory: name a file elsewhere",
			file + "/x/y":   ": " + file + "/x is no directory: name a file elsewhere",
			dir:             " is a directory: name a file in it",
			file:            "",
			dir + "/new":    "",
		} {
			_, err := parseMountOptions([]string{key + "=" + path}, false)
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want != "" && (err == nil || err.Error() != "mount option "+key+": "+path+want || exitCode(err) != exitUsage):
				t.Errorf("%s=%s: %v, want %s%s", key, path, err, path, want)
			}
			if _, err := parseMountOptions([]string{"remount", key + "=" + path}, false); err != nil {
				t.Errorf("a remount, which uses none: %v", err)
			}
		}
	}
	if _, err := os.Stat(dir + "/nope"); err == nil {
		t.Error("the directory was made")
	}
	if _, _, err := openLog(&mountOptions{logFile: dir}, false); err == nil || !strings.HasPrefix(err.Error(), "mount option log: open "+dir) {
		t.Errorf("a log that cannot be opened: %v", err)
	}
}

func TestMountinfo(t *testing.T) {
	m, ok := parseMountinfo(`36 35 0:44 / /mnt\040a\043 rw,noatime shared:1 master:2 - fuse.anvilfs /dev/x,/dev/y\134@L rw,user_id=0`)
	want := mountEntry{id: "36", target: "/mnt a#", source: `/dev/x,/dev/y\@L`, kind: "fuse.anvilfs", dev: "0:44", options: "rw,noatime,rw,user_id=0"}
	if !ok || m != want {
		t.Errorf("%+v %v, want %+v", m, ok, want)
	}
	if _, ok := parseMountinfo("nonsense - x"); ok {
		t.Error("nonsense passed")
	}
	if s := " a\t\\b\n"; unmangle(mangle(s)) != s {
		t.Errorf("%q mangled is %q, then %q", s, mangle(s), unmangle(mangle(s)))
	}
}
