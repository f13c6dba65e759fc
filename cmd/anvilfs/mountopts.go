package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/cmd/events"
	"github.com/anvilfs/anvilfs/cmd/metrics"
)

// mountOptions are what -o says. Zero values are defaults.
type mountOptions struct {
	readOnly   bool
	remount    bool
	allowOther bool
	dedup      bool
	noMerge    bool // branches wait for node online
	noLog      bool // an fsync is a whole commit
	debug      bool
	flags      uintptr // MS_*, without MS_RDONLY
	commit     time.Duration
	deadline   time.Duration
	wait       time.Duration // for members that are not there yet
	memory     int64
	quorum     cluster.OnNoQuorum
	logFile    string
	metrics    string        // HOST:PORT to serve them on; "" = nowhere
	public     bool          // metrics may be seen by others
	scrub      time.Duration // start one so long after the last; 0 = when asked
	state      string        // file that remembers what is bad; "" = by the cluster's id
	hook       string        // a program to run for each event; "" = none
}

// flagWords are the generic words that set or clear bits of mount(2).
var flagWords = map[string]struct {
	set, clear uintptr
}{
	"suid": {0, unix.MS_NOSUID}, "nosuid": {unix.MS_NOSUID, 0},
	"dev": {0, unix.MS_NODEV}, "nodev": {unix.MS_NODEV, 0},
	"exec": {0, unix.MS_NOEXEC}, "noexec": {unix.MS_NOEXEC, 0},
	"async": {0, unix.MS_SYNCHRONOUS}, "sync": {unix.MS_SYNCHRONOUS, 0},
	"dirsync": {unix.MS_DIRSYNC, 0},
	"atime":   {0, unix.MS_NOATIME}, "noatime": {unix.MS_NOATIME, 0},
	"diratime": {0, unix.MS_NODIRATIME}, "nodiratime": {unix.MS_NODIRATIME, 0},
	"relatime": {unix.MS_RELATIME, unix.MS_STRICTATIME | unix.MS_NOATIME}, "norelatime": {0, unix.MS_RELATIME},
	"strictatime": {unix.MS_STRICTATIME, unix.MS_RELATIME | unix.MS_NOATIME}, "nostrictatime": {0, unix.MS_STRICTATIME},
	"lazytime": {unix.MS_LAZYTIME, 0}, "nolazytime": {0, unix.MS_LAZYTIME},
	"nosymfollow": {unix.MS_NOSYMFOLLOW, 0},
}

// ignoredWords mean something to mount(8), fstab or the kernel, not to us.
// The kernel always checks permissions here, so default_permissions changes
// nothing.
var ignoredWords = map[string]bool{
	"defaults": true, "auto": true, "noauto": true, "user": true, "nouser": true, "users": true,
	"owner": true, "group": true, "_netdev": true, "nofail": true, "mand": true, "nomand": true,
	"default_permissions": true, "silent": true, "loud": true, "iversion": true, "noiversion": true,
}

// ignoredKeys are words with a value of the same kind. Those of the kernel
// come back to us from /proc/mounts on a remount.
var ignoredKeys = map[string]bool{
	"comment": true, "uhelper": true, "user": true,
	"user_id": true, "group_id": true, "rootmode": true, "fd": true, "max_read": true, "blksize": true,
}

// parseMountOptions reads the lists that were given with -o, in order: later
// words win. With sloppy, unknown words are ignored.
func parseMountOptions(lists []string, sloppy bool) (mountOptions, error) {
	var o mountOptions
	for _, list := range lists {
		for _, word := range splitPlain(list, ',') {
			word = strings.TrimSpace(unescape(word))
			if word == "" {
				continue
			}
			err := o.set(word)
			if errors.Is(err, errUnknownOption) && sloppy {
				continue
			}
			if err != nil {
				return o, err
			}
		}
	}
	if err := o.checkFiles(); err != nil {
		return o, err
	}
	if o.metrics != "" {
		if err := metrics.CheckAddress(o.metrics, o.public); err != nil {
			return o, usageError("mount option metrics: %w", err)
		}
	}
	return o, nil
}

// checkFiles refuses files that cannot be made where they were named. A remount uses
// none of them.
func (o *mountOptions) checkFiles() error {
	if o.remount {
		return nil
	}
	for _, f := range []struct{ key, path string }{{"log", o.logFile}, {"state", o.state}} {
		if f.path == "" {
			continue
		}
		if err := fileCanBe(f.path); err != nil {
			return usageError("mount option %s: %w", f.key, err)
		}
	}
	return nil
}

// fileCanBe is an error if path is no place for a file. A directory that is missing
// may be a slip, or a disk that is not mounted: it is not made.
func fileCanBe(path string) error {
	dir := filepath.Dir(path)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: there is no directory %s: make it, or name a file elsewhere", path, dir)
	case errors.Is(err, unix.ENOTDIR) || err == nil && !info.IsDir():
		return fmt.Errorf("%s: %s is no directory: name a file elsewhere", path, dir)
	case err != nil:
		return fmt.Errorf("%w: name a file elsewhere", err)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory: name a file in it", path)
	}
	return nil
}

var errUnknownOption = errors.New("unknown mount option")

func (o *mountOptions) set(word string) error {
	key, value, hasValue := strings.Cut(word, "=")
	switch {
	case strings.HasPrefix(key, "x-") || strings.HasPrefix(key, "X-"):
		return nil
	case hasValue && ignoredKeys[key]:
		return nil
	case hasValue:
		return o.setValue(key, value)
	case ignoredWords[key]:
		return nil
	}
	if f, ok := flagWords[key]; ok {
		o.flags = o.flags&^f.clear | f.set
		return nil
	}
	switch key {
	case "ro":
		o.readOnly = true
	case "rw":
		o.readOnly = false
	case "remount":
		o.remount = true
	case "metrics_public":
		o.public = true
	case "dedup":
		o.dedup = true
	case "nodedup":
		o.dedup = false
	case "nomerge":
		o.noMerge = true
	case "nointentlog":
		o.noLog = true
	case "intentlog":
		o.noLog = false
	case "allow_other":
		o.allowOther = true
	case "debug":
		o.debug = true
	case "commit", "memory", "quorum", "deadline", "wait", "log", "hook", "metrics", "scrub", "state":
		return usageError("mount option %s needs a value: %s=...", key, key)
	default:
		return usageError("%w %q: 'anvilfs mount --help' lists those that exist", errUnknownOption, word)
	}
	return nil
}

func (o *mountOptions) setValue(key, value string) (err error) {
	switch key {
	case "commit":
		o.commit, err = commitRange.parse(value)
	case "deadline":
		o.deadline, err = deadlineRange.parse(value)
	case "wait":
		o.wait, err = waitRange.parse(value)
	case "memory":
		o.memory, err = parseMemory(value)
	case "quorum":
		switch value {
		case "hang":
			o.quorum = cluster.Hang
		case "eio":
			o.quorum = cluster.EIO
		default:
			err = fmt.Errorf("%q is neither hang nor eio", value)
		}
	case "metrics":
		o.metrics = value
	case "scrub":
		o.scrub, err = scrubRange.parse(value)
	case "state":
		if o.state = value; !filepath.IsAbs(value) {
			err = fmt.Errorf("%q is not an absolute path", value)
		}
	case "hook":
		o.hook, err = value, events.CheckHook(value)
	case "log":
		if o.logFile = value; value == "" {
			err = errors.New("no file given")
		}
	case "cache":
		return usageError("cache=%s is no option: it is named among the members, as in a,b,c,cache=%[1]s@LABEL", value)
	default:
		return usageError("%w %q: 'anvilfs mount --help' lists those that exist", errUnknownOption, key+"="+value)
	}
	if err != nil {
		return usageError("mount option %s: %w", key, err)
	}
	return nil
}
