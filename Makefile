# make help lists the targets. CI runs make test.
GO      ?= go
BIN     := bin/anvilfs
PREFIX  ?= /usr/local
SBIN    ?= /sbin
SHARE   ?= $(PREFIX)/share
UNITS   ?= $(PREFIX)/lib/systemd/system
ZSHNAME ?= site-functions
VERSION ?=

# As the package is built: what is tested is what is shipped, compiled once.
export CGO_ENABLED ?= 0
export GOFLAGS     ?= -trimpath

.PHONY: help build run test test-go mutate mutate-some test-long check test-ends test-rest counts lint race fuzz bench install install-files uninstall deb deps

help:
	@echo 'make run        the tour: three members in a directory, mounted, one lost and brought back'
	@echo 'make test       everything that a change must pass (some 25 minutes on two cores)'
	@echo 'make build      bin/anvilfs'
	@echo 'make lint       format, vet and the rules of the house'
	@echo 'make check      the regression tree over real mounts (T="001 010" picks tests)'
	@echo 'make race       unit tests under the race detector'
	@echo 'make fuzz       every fuzz target for FUZZTIME (6s) each, one on each processor'
	@echo 'make bench      workloads beside ext4 and a loopback filesystem'
	@echo 'make mutate     every breakage of tests/mutate against the test that must notice'
	@echo 'make test-long  crash states, simulations, breakages and bad disks for LONG (10m) each, and no'
	@echo '                less than make test does; a small scope to its end'
	@echo 'make install    the binary, the helpers of mount(8), mkfs(8) and fsck(8), man pages,'
	@echo '                completion of shells, units of systemd (PREFIX, SBIN, DESTDIR)'
	@echo 'make uninstall  takes all that away'
	@echo 'make deb        bin/anvilfs_VERSION_ARCH.deb, with the same content below /usr'

build:
	$(GO) build $(if $(VERSION),-ldflags '-X main.release=$(VERSION)') -o $(BIN) ./cmd/anvilfs
	$(GO) build -o bin/ ./tests/baddisk ./tests/fsx ./tests/wrongcopy

run: build deps
	$(BIN) demo

deps:
	@./tests/deps

test: DEPTH := test
test: deps lint test-go test-ends counts

# Harnesses count what they did, and fail below their goal: tests/bar.
DEPTH  ?= quick
COUNTS := $(CURDIR)/bin/counts

# Compilers and harnesses allocate much and hold little: collected less often, they
# take a fifth and a twentieth less time.
LAZY := GOGC=300

# What compiles broken programs and times their tests comes by itself. Tests that
# wait more than they work go first, beside the longest: at the end they would
# leave the processors idle. lint has vetted them.
WAITING := ./cluster/histories ./sync/... ./fs/... ./cluster ./cmd/... ./chain ./chain/fsck ./chain/goldentest ./chain/salvage
HEAVY   := ./chain/crashtest ./tests/sim ./chain/hostile ./cluster/matrix
test-go:
	@rm -f $(COUNTS); mkdir -p bin
	$(LAZY) ANVILFS_DEPTH=test ANVILFS_COUNTS=$(COUNTS) $(GO) test -vet=off -timeout 45m \
	  ./tests/crash $(WAITING) $(HEAVY) $$($(GO) list ./... | grep -v 'tests/mutate$$')

mutate-some: build
	$(LAZY) ANVILFS_DEPTH=test ANVILFS_COUNTS=$(COUNTS) $(GO) test -count=1 -v -timeout 20m ./tests/mutate

mutate: build
	$(GO) test -count=1 -v -timeout 3h ./tests/mutate -run TestMutations -all

counts:
	@cat $(COUNTS)

lint:
	@files=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$files" ]; then echo "gofmt -w is needed on:"; echo "$$files"; exit 1; fi
	$(LAZY) $(GO) vet ./...

check: build
	ANVILFS_DEPTH=$(DEPTH) ANVILFS_COUNTS=$(COUNTS) ./tests/check $(T)

# Breakages are built and tested one after the other, and the tree waits for devices:
# fuzzing takes the processor that they leave.
test-ends:
	$(MAKE) -j2 fuzz test-rest DEPTH=$(DEPTH)
test-rest:
	$(MAKE) mutate-some
	$(MAKE) check DEPTH=$(DEPTH)

race:
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

# At least 20 targets, or some got lost. Found inputs stay in testdata/fuzz.
FUZZTIME ?= 6s
fuzz:
	@mkdir -p bin
	GO=$(GO) ANVILFS_COUNTS=$(COUNTS) ./tests/fuzz $(FUZZTIME) 20

LONG ?= 10m
PROOFS := ./chain/crashtest ./tests/crash ./chain/hostile ./tests/sim ./cluster/matrix ./cluster/histories
# LONG ends each harness once it has done what make test asks for. make mutate
# tries all breakages; here they go on where another day's part begins. The
# scope of one txg has an end, eight minutes away, whatever LONG is.
test-long: build
	@rm -f $(COUNTS)
	ANVILFS_DEPTH=nightly ANVILFS_LONG=$(LONG) ANVILFS_COUNTS=$(COUNTS) $(GO) test -timeout 24h -p 2 $(PROOFS)
	ANVILFS_DEPTH=nightly $(GO) test -count=1 -v -timeout 2h ./tests/sim -run 'TestExplore$$' -scope 'a txg' -states -1
	ANVILFS_DEPTH=nightly ANVILFS_LONG=$(LONG) ANVILFS_COUNTS=$(COUNTS) $(GO) test -count=1 -v -timeout 24h ./tests/mutate
	ANVILFS_DEPTH=nightly ANVILFS_LONG=$(LONG) ANVILFS_COUNTS=$(COUNTS) TEST_TIMEOUT=24h ./tests/check -g disk
	@cat $(COUNTS)

bench: build
	./tests/bench/run

HELPERS := mount.fuse.anvilfs mount.anvilfs umount.fuse.anvilfs umount.anvilfs mkfs.anvilfs fsck.anvilfs fsck.fuse.anvilfs
UNITFILES := anvilfs@.service anvilfs-check@.service anvilfs-check@.timer anvilfs-trim@.service anvilfs-trim@.timer anvilfs-scrub@.service anvilfs-scrub@.timer
BASHDIR = $(DESTDIR)$(SHARE)/bash-completion/completions
ZSHDIR  = $(DESTDIR)$(SHARE)/zsh/$(ZSHNAME)
FISHDIR = $(DESTDIR)$(SHARE)/fish/vendor_completions.d

install: build install-files

# The binary is there: BIN may be another one than that of build.
install-files:
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/anvilfs
	install -d $(DESTDIR)$(SBIN) $(DESTDIR)$(SHARE)/man/man8 $(DESTDIR)$(UNITS) $(BASHDIR) $(ZSHDIR) $(FISHDIR)
	for h in $(HELPERS); do ln -sfn $(PREFIX)/bin/anvilfs $(DESTDIR)$(SBIN)/$$h; done
	$(BIN) manual $(DESTDIR)$(SHARE)/man/man8
	$(BIN) completion bash >$(BASHDIR)/anvilfs
	$(BIN) completion zsh >$(ZSHDIR)/_anvilfs
	$(BIN) completion fish >$(FISHDIR)/anvilfs.fish
	for u in $(UNITFILES); do \
	  sed 's|@BIN@|$(PREFIX)/bin|' packaging/systemd/$$u >$(DESTDIR)$(UNITS)/$$u && chmod 644 $(DESTDIR)$(UNITS)/$$u || exit 1; done

uninstall:
	for h in $(HELPERS); do rm -f $(DESTDIR)$(SBIN)/$$h $(DESTDIR)$(SHARE)/man/man8/$$h.8; done
	for u in $(UNITFILES); do rm -f $(DESTDIR)$(UNITS)/$$u; done
	find $(DESTDIR)/etc/systemd/system -path '*.wants/*' -type l -lname '$(UNITS)/anvilfs*@.*' -delete 2>/dev/null || true
	rm -f $(DESTDIR)$(SHARE)/man/man8/anvilfs.8 $(DESTDIR)$(SHARE)/man/man8/anvilfs-*.8
	rm -f $(BASHDIR)/anvilfs $(ZSHDIR)/_anvilfs $(FISHDIR)/anvilfs.fish
	rm -f $(DESTDIR)$(PREFIX)/bin/anvilfs

deb:
	GO='$(GO)' VERSION='$(VERSION)' packaging/deb
