# make help says what there is. README.md and .ci/run call these targets.

GO        ?= go
export GO
BIN       := bin
FUZZTIME  ?= 100000x
LDFLAGS   := -s -w -X main.version=$(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Go needs to know where its caches are. A service manager may not set HOME.
ifndef HOME
export HOME := $(shell env -u HOME bash -c 'echo ~')
endif

# `go test` that says which tests are left out here; the packages without those that
# measure a whole server, and without those of several hosts; and the race detector
# where it can be had.
TEST  = $(GO) run ./test/report
UNITS = $$($(GO) list ./... | grep -v -e /test/bench -e /test/hostile -e /test/soak)
QUICK = $$($(GO) list ./... | grep -v -e /test/bench -e /test/hostile -e /test/soak -e /test/network -e /test/binary)
RACE  = $(shell test/race)

.DEFAULT_GOAL := build

## build: coredns with rserpool, and rsp, in bin/
.PHONY: build
build:
	@mkdir -p $(BIN)
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/coredns ./cmd/rsp

## build-all: the same, with every plugin that CoreDNS ships (slow, large)
.PHONY: build-all
build-all:
	@mkdir -p $(BIN)
	$(GO) build -tags allplugins -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/coredns ./cmd/rsp

## run: a name server on port 1053 with nine sample elements; Ctrl-C ends it
.PHONY: run
run: build
	@test/demo/run

## short: format, vet and the quick tests: under a minute, installs nothing
.PHONY: short
short: format
	$(GO) vet ./...
	@$(TEST) -short $(QUICK)

## units: the Go tests but those of a whole server (TESTFLAGS=-count=1: all anew)
.PHONY: units
units:
	@$(TEST) $(RACE) $(TESTFLAGS) $(UNITS)

## test: all tests, in the kernel lab too where it can be had
# What measures a whole server has the machine to itself; it builds that server, of
# which the cache of results knows nothing.
.PHONY: test
test: build
	@test/setup
	@$(GO) run ./test/network/check
	@$(MAKE) --no-print-directory units
	@$(TEST) $(RACE) -count=1 -p 1 ./test/bench ./test/hostile ./test/soak
	@test/lab/all

## check: format, vet, staticcheck, and the rules of this module (test/lint)
.PHONY: check
check: format
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/lint ./test/lint
	$(GO) vet -vettool=$(BIN)/lint ./...
	$(GO) run ./test/lint/unused ./...

.PHONY: format
format:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-formatted:"; gofmt -l .; exit 1; }

## soak: load and faults in their long forms, some twenty minutes
.PHONY: soak
soak: build
	$(GO) test ./test/soak -long -v -timeout 60m
	@! test/lab/check-packages || test/lab/gotest ./test/soak -t 1h -run Lab -long -v
	$(GO) test ./test/hostile -long -v -timeout 60m

## sim: registrars and elements in virtual time, SEEDS of each kind (300), one large
SEEDS ?= 300
.PHONY: sim
sim:
	SIM_SEEDS=$(SEEDS) $(GO) test -timeout 0 ./test/sim

## fuzz: each fuzz target for FUZZTIME (100000x: so many inputs; or 1m)
.PHONY: fuzz
fuzz:
	@test/fuzz $(FUZZTIME)

## bench: the figures of docs/performance.md, as a table (five to ten minutes)
.PHONY: bench
bench: build
	$(GO) run ./test/bench

## clean: what the other targets made
.PHONY: clean
clean:
	rm -rf $(BIN)

## help: this list
.PHONY: help
help:
	@sed -n 's/^## /  /p' Makefile
