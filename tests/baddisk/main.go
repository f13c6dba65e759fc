// Command baddisk is a disk that fails on demand: a FUSE filesystem with two
// files, "disk", which holds an image and goes under a loop device, and "ctl",
// which takes commands.
//
//	baddisk IMAGE DIRECTORY
//	losetup --direct-io=on -f --show DIRECTORY/disk
//	echo eio write > DIRECTORY/ctl
//
// Like a disk with a volatile cache it keeps what is written in memory until
// it is flushed; only then does it reach IMAGE. So "cut" can take away what a
// power cut would, which killing a process cannot.
//
// It serves in front until it is unmounted or interrupted, and then leaves
// unflushed writes out of IMAGE.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "baddisk takes an image and a directory to mount on")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "baddisk:", err)
		os.Exit(1)
	}
}

func serve(image, dir string) error {
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	d, err := newDisk(f)
	if err != nil {
		return err
	}
	server, err := fs.Mount(dir, &root{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{
		FsName: image, Name: "baddisk", MaxWrite: 1 << 20, DisableSplice: true, DirectMount: os.Geteuid() == 0,
	}})
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		d.command("ok") // nobody may hang on us when we go
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	}()
	server.Wait()
	return nil
}
