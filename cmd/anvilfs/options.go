package main

import (
	"strings"
	"syscall"
	"time"

	"github.com/anvilfs/anvilfs/cluster"
)

// mountOptions are the words behind -o.
type mountOptions struct {
	readOnly   bool
	remount    bool
	allowOther bool
	debug      bool
	logFile    string
	flags      uintptr // of mount(2)
	pool       cluster.Options
}

// flagWords are the generic options that are bits of mount(2).
var flagWords = map[string]struct {
	bit uintptr
	set bool
}{
	"nosuid": {syscall.MS_NOSUID, true}, "suid": {syscall.MS_NOSUID, false},
	"nodev": {syscall.MS_NODEV, true}, "dev": {syscall.MS_NODEV, false},
	"noexec": {syscall.MS_NOEXEC, true}, "exec": {syscall.MS_NOEXEC, false},
	"sync": {syscall.MS_SYNCHRONOUS, true}, "async": {syscall.MS_SYNCHRONOUS, false},
	"dirsync": {syscall.MS_DIRSYNC, true},
	"noatime": {syscall.MS_NOATIME, true}, "atime": {syscall.MS_NOATIME, false},
	"nodiratime": {syscall.MS_NODIRATIME, true}, "diratime": {syscall.MS_NODIRATIME, false},
	"relatime": {syscall.MS_RELATIME, true}, "norelatime": {syscall.MS_RELATIME, false},
}

// ignoredWords mean something to mount(8), systemd or other filesystems, and
// nothing here; fstab lines carry them.
var ignoredWords = map[string]bool{
	"defaults": true, "auto": true, "noauto": true, "nofail": true, "_netdev": true,
	"user": true, "nouser": true, "users": true, "owner": true, "group": true,
	"default_permissions": true, // always on
}

// parseOptions reads comma-separated words, later ones winning. Unknown ones
// are refused: a misspelt option must not pass for a promise.
func parseOptions(lists ...string) (mountOptions, error) {
	var o mountOptions
	for _, list := range lists {
		for _, word := range strings.Split(list, ",") {
			if word = strings.TrimSpace(word); word == "" {
				continue
			}
			if err := o.word(word); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

func (o *mountOptions) word(word string) error {
	name, value, valued := strings.Cut(word, "=")
	if f, ok := flagWords[word]; ok {
		o.flags &^= f.bit
		if f.set {
			o.flags |= f.bit
		}
		return nil
	}
	switch {
	case ignoredWords[word] || strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-") || name == "comment":
		return nil
	case valued:
		return o.valued(name, value)
	}
	switch word {
	case "ro":
		o.readOnly = true
	case "rw":
		o.readOnly = false
	case "remount":
		o.remount = true
	case "allow_other":
		o.allowOther = true
	case "debug":
		o.debug = true
	default:
		return usageError("mount option %q is not known here; anvilfs mount --help lists those that are", word)
	}
	return nil
}

func (o *mountOptions) valued(name, value string) error {
	var err error
	switch name {
	case "commit":
		o.pool.Commit, err = seconds(value)
	case "deadline":
		o.pool.Deadline, err = seconds(value)
	case "memory":
		o.pool.Memory, err = parseSize(value)
		if err == nil && o.pool.Memory < 32<<20 {
			return usageError("memory=%s: 32m is the least that works", value)
		}
	case "quorum":
		switch value {
		case "hang":
			o.pool.OnNoQuorum = cluster.Hang
		case "eio":
			o.pool.OnNoQuorum = cluster.EIO
		default:
			return usageError("quorum=%s: write quorum=hang (wait for nodes to return) or quorum=eio (fail)", value)
		}
	case "log":
		o.logFile = value
	default:
		return usageError("mount option %q is not known here; anvilfs mount --help lists those that are", name+"="+value)
	}
	if err != nil {
		return usageError("mount option %s: %v", name, err)
	}
	return nil
}

// seconds reads a duration; a bare number counts seconds.
func seconds(value string) (time.Duration, error) {
	if d, err := time.ParseDuration(value); err == nil && d > 0 {
		return d, nil
	}
	d, err := time.ParseDuration(value + "s")
	if err == nil && d <= 0 {
		err = usageError("%q is not a time above zero", value)
	}
	return d, err
}
