# Sourced by every test: a directory $T of its own, helpers, and a cleanup
# that leaves no mount, process or loop device behind.

M=$T/mnt
trap cleanup EXIT

cleanup() {
	local m
	cgroups_off
	for m in "$T"/bad.*/ctl; do [ -e "$m" ] && echo ok >"$m" 2>/dev/null; done
	unmount_below "$T/" '/bad[.]'
	for m in $(losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v t="$T/" 'index($2, t) == 1 { print $1 }'); do
		losetup -d "$m" 2>/dev/null
	done
	unmount_below "$T/" '^$'
	# A device whose disk was unmounted first has lost the way to its file.
	for m in $(find "$T" -maxdepth 1 -type l -lname '/dev/loop*' -printf '%l\n' 2>/dev/null); do
		[ "$(losetup -n -O BACK-FILE "$m" 2>/dev/null | tr -d ' ')" = /disk ] && losetup -d "$m" 2>/dev/null
	done
	# Servers of ours that are left, by what they have open: looking at the
	# command lines of all processes would hang on any that hangs.
	for m in $(cat "$T/pids" "$T"/*.log 2>/dev/null | sed -nE 's/^([0-9]+)$/\1/p; s/.* pid=([0-9]+)$/\1/p'); do
		find "/proc/$m/fd" -lname "$T/*" 2>/dev/null | grep -q . && kill -9 "$m" 2>/dev/null
	done
	return 0
}

# cgroups: where a container of this test is, in all that systemd looks at.
cgroups() {
	awk -v t="${T##*/}" '$3 == "cgroup2" || $3 == "cgroup" && $4 ~ /(^|,)name=systemd(,|$)/ { print $2 "/" t }' /proc/mounts
}

# cgroups_off ends what runs in these, and removes them.
cgroups_off() {
	local d
	for d in $(cgroups); do
		[ -d "$d" ] || continue
		until_true 10 cgroup_off "$d" || echo "$d stays" >&2
	done
}

cgroup_off() {
	find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null | xargs -r kill -9 2>/dev/null
	find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
	[ ! -d "$1" ]
}

# unmount_below DIR BUT: the mounts there, innermost first, but those that
# match.
unmount_below() {
	local m
	for m in $(awk -v t="$1" -v b="$2" 'index($2, t) == 1 && $2 !~ b { print $2 }' /proc/mounts | sort -r); do
		umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null
	done
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
		awk 'BEGIN {
			ORS = ""
			for (i = 1; i <= 40; i++) {
				for (s = sprintf("%c", 64 + i % 26); length(s) < i * i * 97;) s = s s
				print substr(s, 1, i * i * 97) >("d/file" i)
				close("d/file" i)
			}
		}'
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

# others_off: in a mount namespace of our own, mounts that are not of this test
# go: whoever unmounts them elsewhere would wait for us. -n leaves their entries
# for umount(8) alone.
others_off() {
	local m
	for m in $(awk -v t="$T/" '$3 == "fuse.anvilfs" && index($2, t) != 1 { print $2 }' /proc/mounts); do umount -i -n -l "$m"; done
}

# own_namespace: the test begins anew in a mount namespace of its own, without
# the mounts of others.
own_namespace() {
	local script=${BASH_SOURCE[-1]}
	need unshare
	if [ -z "${INSIDE:-}" ]; then
		INSIDE=1 exec unshare -m --propagation private bash -c '. "$HERE/lib.sh"; . "$1"' "$script" "$script"
	fi
	others_off
}

# own_helpers: in such a namespace mount(8) and umount(8) find this build,
# whatever is installed, or left by others.
own_helpers() {
	local h sbin
	own_namespace
	sbin=$(readlink -f /sbin)
	mkdir -p sbin.new && mount -t tmpfs tmpfs sbin.new && mkdir sbin.new/up sbin.new/work &&
		mount -t overlay overlay -o "lowerdir=$sbin,upperdir=$T/sbin.new/up,workdir=$T/sbin.new/work" "$sbin" 2>/dev/null ||
		{ echo "no overlay can be mounted here"; exit 77; }
	for h in mount.fuse.anvilfs umount.fuse.anvilfs; do ln -sfn "$ANVILFS" "/sbin/$h"; done
}

need() {
	command -v "$1" >/dev/null || { echo "$1 is not installed"; exit 77; }
}

# bad NAME SIZE: a disk that fails on demand, as loop device NAME.
bad() {
	need losetup
	truncate -s "$2" "$1.img"
	mkdir "bad.$1"
	"$ROOT/bin/baddisk" "$1.img" "$T/bad.$1" 2>>baddisk.log &
	echo $! >>"$T/pids"
	until_true 10 test -e "bad.$1/disk" || fail "baddisk did not start"
	plug "$1"
}

# plug NAME: puts the loop device on, again if it was taken away.
plug() {
	local dev
	dev=$(losetup --direct-io=on -f --show "$T/bad.$1/disk") || fail "losetup"
	ln -sfn "$dev" "$1"
}

# fault NAME COMMAND: what baddisk is to do.
fault() { echo "$2" >"$T/bad.$1/ctl" || fail "baddisk refused: $2"; }

# until_true SECONDS COMMAND...: tries until it is true.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# state NODE: of one node of the mount.
state() { health | grep -o "\b$1 [a-z-]*" | cut -d' ' -f2; }
is_state() { [ "$(state "$1")" = "$2" ]; }

# server: the process that serves the mount.
server() { sed -n 's/^ *"pid": \([0-9]*\),/\1/p' "$M/.anvilfs/status.json"; }

# crash [JOB...]: the server dies as by kill -9, and the dead mount is taken away
# once these writers have met that: who then opens a name anew, and syncs it, does
# so in the directory below, and takes that for acknowledged.
crash() {
	local pid
	pid=$(server)
	kill -9 "$pid"
	until_true 10 eval "! kill -0 $pid 2>/dev/null"
	[ $# -eq 0 ] || wait "$@"
	umount "$M" 2>/dev/null || umount -l "$M"
}

# answers: the mount is served, and synced. SQLite takes a commit for durable if it
# cannot open the directory to sync it, which is so when the server has just died.
answers() { sync "$M" 2>/dev/null; }

# logged DEVICE: how many txgs are in its intent log only.
logged() { anvil fsck --json "$1" | sed -nE 's/^  "logged": ([0-9]+),?/\1/p'; }

# level: every member has the last txg, in its log or in its tree.
level() { [ "$(anvil status "$M" --json | sed -nE 's/^ *"(committed|tid)": "(.*)",/\2/p' | sort -u | wc -l)" -eq 1 ]; }

# in_logs NAMES LEAST COMMAND...: mounts, does it, and kills the server when
# every member has it, LEAST txgs of it in the log only. A mount that is slow
# for seconds brings all into the trees: then it is done again.
in_logs() {
	local m try names=$1 least=$2
	shift 2
	for try in 1 2 3 4 5; do
		attach "$names" commit=60
		healthy
		"$@" || fail "$*"
		await 60 level
		crash
		for m in ${names//,/ }; do [ "$(logged "$m")" -ge "$least" ] || continue 2; done
		return
	done
	fail "it does not stay in the logs: $try tries"
}

# node NAME FIELD: what status --json says of one node.
node() {
	anvil status "$M" --json | awk -v n="\"$1\"," -v f="\"$2\":" '
		$1 == "\"name\":" { mine = $2 == n }
		mine && $1 == f { sub(/^[^:]*: /, ""); sub(/,$/, ""); gsub(/^"|"$/, ""); print }'
}

# await SECONDS COMMAND...: until it is true, or the test fails and says what
# did not come true.
await() { until_true "$@" || fail "not in $1 s: ${*:2}; $(health 2>&1)"; }

# healthy [TIME]: every node is there and in sync, before long.
healthy() { anvil wait healthy "$M" --timeout "${1:-60s}" || fail "not healthy: $(health)"; }

# missing: the id of the member that the mount was not given.
missing() { awk -F'"' '$2 == "name" { n = $4 } $2 == "state" && $4 == "missing" { print n }' "$M/.anvilfs/status.json"; }

# gone PID: it has ended.
gone() { ! kill -0 "$1" 2>/dev/null; }

# goal QUICK TEST NIGHTLY: how many rounds this run is to make. How deep it
# goes is said as for the other harnesses: see package bar.
goal() {
	case ${ANVILFS_DEPTH:-quick} in
	quick) wanted=$1 ;;
	test) wanted=$2 ;;
	nightly) wanted=$3 ;;
	*) fail "ANVILFS_DEPTH=$ANVILFS_DEPTH: quick, test or nightly" ;;
	esac
	soak=0
	if [ "${ANVILFS_DEPTH:-}" = nightly ] && [ -n "${ANVILFS_LONG:-}" ]; then
		# A soak: the time ends it, but never before what make test asks for.
		wanted=$2 soak=$(seconds "$ANVILFS_LONG")
	fi
	rounds_begin=$SECONDS
}

# more N: after N rounds there is to be another.
more() { [ "$1" -lt "$wanted" ] || [ $((SECONDS - rounds_begin)) -lt "$soak" ]; }

# counted N WHAT: hands in the count; too few fail the test.
counted() {
	[ -z "${ANVILFS_COUNTS:-}" ] ||
		printf '%9d %s (%s: at least %d)\n' "$1" "$2" "${ANVILFS_DEPTH:-quick}" "$wanted" >>"$ANVILFS_COUNTS"
	[ "$1" -ge "$wanted" ] || fail "too little to say anything: $1 $2, not $wanted"
}

# seconds 1h30m: 5400
seconds() { echo $(($(echo "$1" | sed -E 's/([0-9]+)h/\1*3600+/; s/([0-9]+)m/\1*60+/; s/([0-9]+)s/\1+/; s/$/0/'))); }
