# Sourced by tests that boot: this system with a root of its own, as a container
# of systemd. What is written there is kept apart in a tmpfs.

# machine DIR: its root, with nothing enabled and no mounts but what the test says.
machine() {
	need systemd-nspawn
	need setpriv
	grep -qw overlay /proc/filesystems || { echo "the kernel has no overlay to boot on"; exit 77; }
	own_namespace
	# nspawn leaves directories in /run.
	mkdir "$1" over && mount -t tmpfs tmpfs /run && mount -t tmpfs -o size=1g tmpfs over && mkdir over/up over/work &&
		mount -t overlay overlay -o "lowerdir=/,upperdir=$T/over/up,workdir=$T/over/work" "$1" 2>/dev/null ||
		{ echo "no overlay can be mounted here"; exit 77; }
	rm -rf "$1"/etc/{fstab,anvilfs,init.d,rc?.d,systemd} "$1"/var/{lib/anvilfs,log/journal}
	mkdir -p "$1"/etc/systemd/{system,journald.conf.d}
	printf '[Journal]\nForwardToConsole=yes\n' >"$1/etc/systemd/journald.conf.d/test.conf"
	echo 0123456789abcdef0123456789abcdef >"$1/etc/machine-id" # else it enables what is installed
	try_boot 30 "$1" probe systemd.unit=poweroff.target || { echo "systemd-nspawn cannot boot here: $(tail -n 1 probe)"; exit 77; }
}

# boot SECONDS DIR LOG: the machine, until it is off.
boot() { try_boot "$@" || fail "$3: it is not off in $1 s, or not well: $(tail -n 1 "$3")"; }

try_boot() {
	local limit=$1 root=$2 log=$3
	shift 3
	(
		for d in $(cgroups); do mkdir -p "$d" && echo "$BASHPID" >"$d/cgroup.procs"; done
		exec setpriv --pdeathsig KILL timeout --foreground -s KILL "$limit" setpriv --pdeathsig KILL \
			systemd-nspawn -q --register=no --keep-unit --private-network --bind=/dev/fuse --console=read-only -M anvilfs-test \
			-b -D "$root" systemd.mask=console-getty.service systemd.show_status=no systemd.unit=multi-user.target "$@"
	) >"$log" 2>&1 </dev/null &
	wait $! # a signal ends this at once
}
