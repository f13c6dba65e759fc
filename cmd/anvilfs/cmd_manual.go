package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/anvilfs/anvilfs/cmd/manual"
)

// manualCommand is for make install.
func manualCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "manual DIRECTORY",
		Short:  "Write the man pages",
		Hidden: true,
		Args:   exactly(1, "a directory"),
		RunE: func(c *cobra.Command, args []string) error {
			pages := manual.Pages(c.Root(), version(), extra)
			for name, of := range helperPages {
				pages = append(pages, manual.Alias(name, of))
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, p := range pages {
				path := filepath.Join(args[0], fmt.Sprintf("%s.%d", p.Name, manual.Section))
				if err := os.WriteFile(path, []byte(p.Roff), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// helperPages are the names under which mount(8) and others call us.
var helperPages = map[string]string{
	"mount.anvilfs": "anvilfs-mount", "mount.fuse.anvilfs": "anvilfs-mount",
	"umount.anvilfs": "anvilfs-umount", "umount.fuse.anvilfs": "anvilfs-umount",
	"mkfs.anvilfs": "anvilfs-newfs", "fsck.anvilfs": "anvilfs-fsck", "fsck.fuse.anvilfs": "anvilfs-fsck",
}

var (
	plainExit = [][2]string{{"0", "Done."}, {"1", "Not done; the message says why."}, {"2", "Wrong words."}}
	checkExit = [][2]string{{"0", "Healthy."}, {"1", "It works, something needs care."}, {"2", "No majority, no answer, or it does not work."}}
	mountExit = [][2]string{{"0", "Done."}, {"2", "Wrong words or options."}, {"32", "Failed; the message says why."}}
)

// extra is what pages have that the command tree does not know.
func extra(words string) manual.Extra {
	switch words {
	case "":
		return manual.Extra{Exit: plainExit, Also: []string{"mount(8)", "umount(8)", "mkfs(8)", "fsck(8)", "fstab(5)"},
			Files: [][2]string{
				{"MNT/.anvilfs/control", "Takes one command per write and answers on the next read; root's only."},
				{"MNT/.anvilfs/status.json", "The whole status."},
				{crashFile, "The trace of a server that died of a fault of its own."},
			}}
	case "mount":
		return manual.Extra{Exit: mountExit, Also: []string{"mount(8)", "fstab(5)", "anvilfs-umount(8)"},
			Files: [][2]string{{utabPath, "Where umount(8) learns that it has to wait for the media."}}}
	case "scan":
		return manual.Extra{Exit: plainExit, Also: []string{"anvilfs-mount(8)", "blkid(8)"}}
	case "umount":
		return manual.Extra{Exit: mountExit, Also: []string{"umount(8)", "anvilfs-mount(8)"}}
	case "newfs":
		return manual.Extra{Exit: plainExit, Also: []string{"mkfs(8)", "anvilfs-mount(8)"}}
	case "fsck":
		return manual.Extra{Also: []string{"fsck(8)"}, Exit: [][2]string{
			{"0", "Clean."}, {"4", "Errors were found."}, {"8", "It could not be checked."}, {"16", "Wrong words."}, {"32", "Interrupted."}}}
	case "status", "doctor":
		return manual.Extra{Exit: checkExit}
	}
	return manual.Extra{Exit: plainExit}
}
