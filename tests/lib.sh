# Sourced by every test: a directory $T of its own, helpers, and a cleanup
# that leaves no mount, process or loop device behind.

M=$T/mnt
trap cleanup EXIT

cleanup() {
	local m
	for m in $(awk -v t="$T/" 'index($2, t) == 1 { print $2 }' /proc/mounts | sort -r); do
		umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null
	done
	for m in $(losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v t="$T/" 'index($2, t) == 1 { print $1 }'); do
		losetup -d "$m" 2>/dev/null
	done
	pkill -9 -f "$T/" 2>/dev/null
	return 0
}

anvil() { "$ANVILFS" "$@"; }

# say runs a command and prints what it says, without the test's own path,
# and its exit code if that is not 0.
say() {
	local code=0
	"$@" >"$T/.said" 2>&1 || code=$?
	plain <"$T/.said"
	[ $code -eq 0 ] || echo "exit $code"
}

# plain takes out what differs from run to run.
plain() {
	sed -E -e "s|$T/||g" -e "s|$T||g" -e 's/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/UUID/g' \
		-e 's/checked in [0-9.a-zµ]+/checked in TIME/'
}

fail() {
	echo "failed: $*"
	exit 1
}

# volumes NAME... SIZE: a cluster of image files, label HOME.
volumes() {
	local size=${*: -1}
	set -- "${@:1:$#-1}"
	anvil newfs -q -L HOME -s "$size" "$@" || fail "newfs $*"
}

# attach NAMES [OPTIONS]: mount members a,b,c of $T on $M.
attach() {
	mkdir -p "$M"
	anvil mount "$1@HOME" "$M" -o "log=$T/mount.log${2:+,$2}" || fail "mount $1"
}

detach() { anvil umount "$M" || fail "umount"; }

# clean DEVICE...: fsck says so.
clean() {
	anvil fsck -q --all-slots "$@" || fail "fsck $*"
}

# same DIR DIR: equal content, types, modes, sizes and times.
same() {
	diff -r --no-dereference -x fifo "$1" "$2" >"$T/.diff" 2>&1 || return 1
	diff <(listing "$1") <(listing "$2") >"$T/.diff" 2>&1
}

# Times of files only: directories of a copy get theirs last.
listing() {
	(cd "$1" && find . -mindepth 1 \( -type f -printf '%p f %m %n %U:%G %s %T@\n' \) \
		-o \( -mindepth 1 -printf '%p %y %m %U:%G %l\n' \)) 2>/dev/null | sort
}

# alone DEVICE DIR: compares what one member shows by itself with a directory.
alone() {
	mkdir -p "$T/alone"
	anvil mount "$1@HOME" "$T/alone" -o "ro,log=$T/alone.log" || fail "mount $1 alone"
	same "$2" "$T/alone" || { head -5 "$T/.diff" | plain; fail "$1 differs"; }
	anvil umount "$T/alone" || fail "umount $1 alone"
}

# tree DIR: some files of all kinds, the same each time.
tree() {
	mkdir -p "$1/d/e/f" && (
		cd "$1" || exit 1
		for i in $(seq 1 40); do head -c $((i * i * 97)) /dev/zero | tr '\0' "$(printf "\\$(printf %o $((64 + i % 26)))")" >"d/file$i"; done
		seq 1 200000 >d/e/numbers
		printf small >small
		: >empty
		ln -s d/e/numbers link
		ln d/file7 d/e/hard
		mkfifo d/fifo
		truncate -s 3M holes && printf end | dd of=holes bs=1 seek=2000000 conv=notrunc status=none
		chmod 751 d/e
		touch -d '2001-02-03 04:05:06.123456789' small
	)
}

# health prints state and the node states of the mount, one line each.
health() {
	anvil status "$M" --json | sed -nE 's/^  "health": "(.*)",/\1/p; s/^      "name": "(.*)",/\1/p; s/^      "state": "(.*)",/\1/p' | plain | paste -sd' '
}

need() {
	command -v "$1" >/dev/null || { echo "$1 is not installed"; exit 77; }
}
