package main

import (
	"errors"
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
