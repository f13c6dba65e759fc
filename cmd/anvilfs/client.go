package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	controlPath = ".anvilfs/control"
	statusPath  = ".anvilfs/status.json"
)

// tell writes one command to the control file of a mount and returns the
// reply. An error carries the server's own sentence.
func tell(mountpoint string, words ...string) (string, error) {
	f, err := os.OpenFile(filepath.Join(mountpoint, controlPath), os.O_RDWR, 0)
	if err != nil {
		return "", notMounted(mountpoint, err)
	}
	defer f.Close()
	_, werr := f.Write([]byte(joinWords(words) + "\n"))
	var reply bytes.Buffer
	if _, err := f.Seek(0, io.SeekStart); err == nil {
		_, err = io.Copy(&reply, f)
		if err != nil && werr == nil {
			return "", fmt.Errorf("%s: reading the reply: %w", mountpoint, err)
		}
	}
	if werr != nil {
		said := strings.TrimSpace(reply.String())
		if said == "" {
			return "", fmt.Errorf("%s: %s: %w", mountpoint, strings.Join(words, " "), werr)
		}
		return "", errors.New(said)
	}
	return reply.String(), nil
}

// readStatus reads the status of a mount as JSON.
func readStatus(mountpoint string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(mountpoint, statusPath))
	if err != nil {
		return nil, notMounted(mountpoint, err)
	}
	return b, nil
}

func notMounted(mountpoint string, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s: only root may give commands to a mount: %w", mountpoint, err)
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("%s: its server has died; unmount it (umount %s) and mount it again: %w", mountpoint, mountpoint, err)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not the root of a mounted anvilfs filesystem (anvilfs status lists those that are)", mountpoint)
	}
	return fmt.Errorf("%s: %w", mountpoint, err)
}

// joinWords makes one line of words; splitWords is its inverse.
func joinWords(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n'\\") {
			w = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(w) + "'"
		}
		out[i] = w
	}
	return strings.Join(out, " ")
}

// splitWords reads words separated by blanks; quotes keep blanks together,
// and inside them \n, \' and \\ stand for what they look like.
func splitWords(line string) ([]string, error) {
	var words []string
	var word []byte
	started, quoted := false, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quoted && c == '\\' && i+1 < len(line):
			i++
			if c = line[i]; c == 'n' {
				c = '\n'
			}
			word = append(word, c)
		case c == '\'':
			quoted, started = !quoted, true
		case !quoted && (c == ' ' || c == '\t' || c == '\n'):
			if started {
				words, word, started = append(words, string(word)), nil, false
			}
		default:
			word, started = append(word, c), true
		}
	}
	if quoted {
		return nil, fmt.Errorf("the command ends inside a quote: %s", line)
	}
	if started {
		words = append(words, string(word))
	}
	return words, nil
}

// A mountEntry is one anvilfs mount of this system.
type mountEntry struct{ source, dir, kind string }

// mounts lists the mounted anvilfs filesystems from /proc/self/mounts.
func mounts() ([]mountEntry, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []mountEntry
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) >= 3 && (f[2] == "fuse.anvilfs" || f[2] == "fuseblk.anvilfs") {
			out = append(out, mountEntry{unescape.Replace(f[0]), unescape.Replace(f[1]), f[2]})
		}
	}
	return out, nil
}
