// Command anvilfs is the whole product in one binary: it makes volumes,
// mounts and serves them, watches and repairs the nodes, and is the helper
// that mount(8), umount(8), mkfs(8) and fsck(8) call.
//
//	argv[0], words -> subcommand -> media (newfs, fsck, show, pfs, bulkfree)
//	                             -> MNT/.anvilfs/control -> the serving process
//	                             -> the serving process itself (mount)
//
// Each subcommand is in its file cmd_VERB.go, is listed in main.go, writes to
// the writers it is given and returns an error; main turns that into one
// sentence on standard error and an exit code (exit.go lists them).
//
// A mount is served by one process. It opens the devices, elects itself
// primary, mounts, tells its parent that the root answers, and stays until
// the last unmount; it ends when the media is complete and closed, which is
// what umount waits for.
package main
