# Sourced by the tests of real mounts on bad disks: workloads that know what
# was acknowledged, power cuts, and what has to hold afterwards. The members
# are a, b and c, made with bad.

# members SIZE: three bad disks in a cluster, with what the workloads need.
members() {
	for m in a b c; do bad $m "$1"; done
	volumes a b c "$1"
}

# prepare WORK: what has to be there before its first round.
prepare() {
	case $1 in
	fsx) mkdir -p "$M/x" "$M/y" ;;
	sqlite)
		need sqlite3
		sql "pragma journal_mode=$journal; create table if not exists t (round, n, s); create index if not exists i on t (s)" >/dev/null ||
			fail "the database cannot be made"
		;;
	build) need gcc && need make && sources ;;
	esac
	anvil sync "$M"
}

# begin WORK ROUND: starts the workload.
begin() {
	jobs=()
	case $1 in
	fsx)
		for d in x y; do
			"$ROOT/bin/fsx" run "$M/$d" "$T/$d.history" $(($2 * 2 + $(printf %d "'$d"))) 2>"fsx.$d.err" &
			jobs+=($!)
		done
		;;
	sqlite)
		: >"acked.$2"
		transactions "$2" >sqlite.err 2>&1 &
		jobs+=($!)
		;;
	build)
		make -C "$M/src" -j2 >make.log 2>&1 &
		jobs+=($!)
		;;
	esac
}

# done_so_far WORK ROUND: how far it came.
done_so_far() {
	case $1 in
	fsx) cat x.history.ops y.history.ops 2>/dev/null | wc -l ;;
	sqlite) wc -l <"acked.$2" ;;
	build) ls "$M/src" 2>/dev/null | grep -c '[.]o$' ;;
	esac
}
came_to() { [ "$(done_so_far "$1" "$2")" -ge "$3" ]; }

# finish WORK: ends it in good order; nothing may have gone wrong in it.
finish() {
	local j
	case $1 in
	fsx) for j in "${jobs[@]}"; do kill -TERM "$j"; done ;;
	sqlite) : >sqlite.stop ;;
	esac
	for j in "${jobs[@]}"; do
		wait "$j" || fail "$1 met an error: $(cat fsx.?.err sqlite.err make.log 2>/dev/null | tail -n 5)"
	done
	rm -f sqlite.stop
}

# broken_off WORK: waits for what the power cut ended, and takes the dead mount
# away: not before, since then the directory below would be worked in.
broken_off() {
	local j code
	for j in "${jobs[@]}"; do
		wait "$j"
		code=$?
		[ "$1" != fsx ] || [ $code -eq 3 ] || fail "fsx ended with $code before the power went: $(cat fsx.?.err)"
	done
	umount "$M" 2>/dev/null || umount -l "$M"
}

# judge WORK ROUND: is what the mount shows what it may be?
judge() {
	local d r
	case $1 in
	fsx)
		for d in x y; do
			"$ROOT/bin/fsx" check "$M/$d" "$d.history" >"$d.found" 2>&1 || { cat "$d.found"; fail "round $2: $d"; }
		done
		;;
	sqlite)
		[ "$(sql 'pragma integrity_check')" = ok ] || fail "round $2: the database is damaged"
		for r in $(seq 0 "$2"); do
			[ -f "acked.$r" ] || continue
			sql "select n from t where round = $r" | sort >there
			sort "acked.$r" | comm -23 - there >lost
			[ -s lost ] && fail "round $2: $(wc -l <lost) transactions of round $r are lost"
		done
		;;
	build)
		diff -r -x '*.o' -x '*.tmp' -x prog src "$M/src" >differs || fail "round $2: the sources changed: $(head -n 3 differs)"
		make -C "$M/src" >make.log 2>&1 || fail "round $2: the build does not go on: $(tail -n 5 make.log)"
		[ "$("$M/src/prog")" = "$("$T/src/prog")" ] || fail "round $2: another program"
		make -C "$M/src" clean >/dev/null || fail "round $2: clean"
		;;
	esac
	return 0
}

# sound: the members are healthy, each is clean, and each alone shows what the
# mount did. The mount is taken away.
sound() {
	healthy 150s
	anvil sync "$M"
	contents "$M" >all.sum || fail "reading the mount"
	detach
	clean a b c
	for m in a b c; do
		mkdir -p "$T/alone"
		anvil mount "$m@HOME" "$T/alone" -o "ro,log=$T/alone.log" 2>alone.err || fail "mount $m alone: $(cat alone.err)"
		contents "$T/alone" >"$m.sum" || fail "reading $m alone"
		anvil umount "$T/alone" || fail "umount $m alone"
		cmp -s all.sum "$m.sum" || { diff all.sum "$m.sum" | head -n 5; fail "$m alone is different"; }
	done
}

# contents DIR: names, types, modes, links, sizes, times of files, and bytes.
contents() {
	(cd "$1" && find . -mindepth 1 \( -type f -printf '%p %m %n %s %T@\n' -o -printf '%p %y %m\n' \) | sort &&
		find . -type f -print0 | sort -z | xargs -0 -r sha256sum)
}

# power_cut ROUND: the power goes for all three, in one of several ways, and
# comes back.
power_cut() {
	local pid=$serving verb m
	case $(($1 % 4)) in
	0 | 2) for m in a b c; do fault $m cut; done ;;
	1) for m in a b c; do fault $m "tear $(($1 * 7919 + $(printf %d "'$m")))"; done ;;
	3) # one went before the others
		fault a cut
		sleep 0.4
		for m in b c; do fault $m "tear $(($1 * 104729 + $(printf %d "'$m")))"; done
		;;
	esac
	kill -9 "$pid"
	await 20 gone "$pid"
}

# cuts WORK FIRST STEP: rounds of work, each ended by a power cut after FIRST,
# FIRST + STEP, ... steps of it, until there were enough.
cuts() {
	local n=0
	while more $n; do
		attach a,b,c "commit=1"
		serving=$(server) # later nobody may answer
		prepare "$1"
		begin "$1" $n
		await 40 came_to "$1" $n $(($2 + n * $3 % ($3 * 7 + 1)))
		power_cut $n
		broken_off "$1"
		for m in a b c; do fault $m ok; done
		attach a,b,c
		judge "$1" $n
		sound
		n=$((n + 1))
	done
	counted $n "power cuts of a real mount: $1"
	echo "nothing acknowledged was lost, nothing was half there"
}

# sql STATEMENTS: as one process each.
journal=wal
sql() { sqlite3 -bail -cmd '.timeout 2000' "$M/db" "pragma synchronous=extra" "$@"; }

# transactions ROUND: one after the other, each acknowledged once it committed.
transactions() {
	local n=0
	until [ -e sqlite.stop ]; do
		sql "begin; insert into t values ($1, $n, hex(randomblob(700))); update t set s = hex(randomblob(900)) where n = $n - 3 and round = $1; commit" && answers || return 1
		echo $n >>"acked.$1"
		n=$((n + 1))
	done
}

# sources: a program of some files, on the mount and beside it, built there.
# Objects get their name when they are complete: with a filesystem that keeps
# the order of calls, what a crash leaves of a build can be gone on with.
sources() {
	local i
	[ -d src ] || {
		mkdir src
		printf 'OBJ := $(patsubst %%.c,%%.o,$(wildcard *.c))\nprog: $(OBJ)\n\tgcc -o $@.tmp $(OBJ) && mv $@.tmp $@\n%%.o: %%.c\n\tgcc -c -o $@.tmp $< && mv $@.tmp $@\nclean:\n\trm -f *.o *.tmp prog\n' >src/Makefile
		{
			echo '#include <stdio.h>'
			for i in $(seq 24); do echo "unsigned f$i(unsigned);"; done
			echo 'int main(void) { unsigned s = 1;'
			for i in $(seq 24); do echo "s = f$i(s);"; done
			echo 'printf("%u\n", s); return 0; }'
		} >src/main.c
		for i in $(seq 24); do
			{
				for f in $(seq 12); do echo "static unsigned g$f(unsigned n) { for (unsigned i = 0; i < 9; i++) n = n * $((i * 2 + 1))u + (i ^ $f); return n; }"; done
				echo "unsigned f$i(unsigned n) {"
				for f in $(seq 12); do echo "n += g$f(n);"; done
				echo 'return n; }'
			} >"src/p$i.c"
		done
		make -C src -j2 >make.log 2>&1 || fail "the build fails without us: $(tail -n 5 make.log)"
	}
	[ -d "$M/src" ] || { mkdir "$M/src" && cp -p src/*.c src/Makefile "$M/src/"; }
}

# trouble WORK ROUND FAULT: a round of work in the middle of which member FAULT's
# disk fails; it must go on as if nothing had happened. FAULT is "MEMBER COMMAND
# ...", as fault takes it.
trouble() {
	local member=${3%% *} command=${3#* } before
	attach a,b,c "commit=1,deadline=2"
	serving=$(server)
	prepare "$1"
	begin "$1" "$2"
	await 40 came_to "$1" "$2" 3
	fault "$member" "$command"
	before=$(done_so_far "$1" "$2")
	case $1 in
	fsx) await 40 came_to "$1" "$2" $((before + 60)) ;;
	sqlite) await 40 came_to "$1" "$2" $((before + 6)) ;;
	esac
	finish "$1"
	noticed "$command" "$member" || fail "$member $command: nobody noticed: $(health)"
	fault "$member" ok
	healthy 150s # after some failures it is tried once a minute
	judge "$1" "$2"
	detach
	attach a,b,c
	judge "$1" "$2"
	sound
}

# noticed COMMAND MEMBER: what ends a member's use shows in its state.
noticed() {
	case $1 in
	"eio write" | "eio flush" | die | full | "eio write after"*) await 20 is_out "$2" ;;
	hang) await 20 is_state "$2" hung ;;
	esac
}
# A disk that cannot be read loses tables first, which makes it tainted.
is_out() { case $(state "$1") in failed | hung | behind | resync | tainted) ;; *) return 1 ;; esac; }
