package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/anvilfs/anvilfs/cluster"
	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/filedev"
	"github.com/anvilfs/anvilfs/ondisk/signature"
)

// signatureOf names what is on a device or file, "" if nothing known is, and of a
// HAMMER2 volume the filesystems, unless somebody has it open.
func signatureOf(path string) (string, error) {
	found, err := probe(path)
	if !strings.HasPrefix(found, signature.Hammer2) {
		return found, err
	}
	d, err := filedev.Open(path, filedev.Options{ReadOnly: true})
	if err != nil {
		return found, nil
	}
	defer d.Close()
	return cluster.Labelled(context.Background(), found, []ondisk.Device{d}), nil
}

// probe names what is on a device or file, "" if nothing known is. It looks for the
// usual formats itself, HAMMER2 first, and asks blkid(8), which knows several hundred,
// where that is installed.
func probe(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no %s: check the path, or make an image file first with 'truncate -s SIZE %s'", path, path)
	}
	if err != nil {
		return "", err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close() // only looked at
		return "", fmt.Errorf("%s is a directory: give a block device or an image file", path)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	found, err := signature.Of(f, size)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if found != "" {
		return found, nil
	}
	return blkidProbe(path)
}

// refuseForeign is an error if a device or file carries anything known.
func refuseForeign(path string) error {
	found, err := signatureOf(path)
	if err != nil {
		return err
	}
	if found != "" {
		return carries(path, found)
	}
	return nil
}

func carries(path, found string) error {
	return fmt.Errorf("%s carries %s: nothing was changed; give -f to overwrite it", path, found)
}

// blkidProbe is what blkid(8) says. Not being there is no error: the own probe
// has been made.
func blkidProbe(path string) (string, error) {
	tool, err := exec.LookPath("blkid")
	if err != nil {
		if tool, err = exec.LookPath("/sbin/blkid"); err != nil {
			return "", nil
		}
	}
	out, err := exec.Command(tool, "-p", "-o", "export", path).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		switch exit.ExitCode() {
		case 2: // nothing found
			return "", nil
		case 8: // several found
			return "several signatures at once", nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s -p %s: %w", tool, path, err)
	}
	return describeBlkid(string(out)), nil
}

func describeBlkid(export string) string {
	fields := make(map[string]string)
	for line := range strings.Lines(export) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[key] = value
	}
	switch {
	case fields["TYPE"] != "":
		return fields["TYPE"] + " (" + strings.TrimSuffix(fields["USAGE"]+" signature", " ") + ")"
	case fields["PTTYPE"] != "":
		return "a " + fields["PTTYPE"] + " partition table"
	}
	return ""
}
