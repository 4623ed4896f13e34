# make help says what there is. README.md and .ci/run call these targets.

GO        ?= go
export GO
BIN       := bin
FUZZTIME  ?= 100000x
LDFLAGS   := -s -w -X main.version=$(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Go finds its caches by HOME, which a service manager may not set.
ifndef HOME
export HOME := $(shell env -u HOME bash -c 'echo ~')
endif

# TEST is `go test` that lists the tests that are left out on this machine. UNITS are the
# packages without those that measure a whole server, QUICK also without those that need
# several hosts. RACE is the race detector, if it is available.
TEST  = $(GO) run ./test/report
UNITS = $$($(GO) list ./... | grep -v -e /test/bench -e '/test/clients$$' -e /test/hostile -e /test/soak)
QUICK = $$($(GO) list ./... | grep -v -e /test/bench -e '/test/clients$$' -e /test/hostile -e /test/soak -e /test/network -e /test/trusted -e /test/binary)
PURE  = ./registrar ./test/sim
RACE  = $(shell test/race)

.DEFAULT_GOAL := build

## build: coredns with rserpool, and rsp, in bin/; static, for images without a C library
.PHONY: build
build:
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/coredns ./cmd/rsp

## build-all: both, not static, with every plugin that CoreDNS ships (slow, large)
.PHONY: build-all
build-all:
	@mkdir -p $(BIN)
	$(GO) build -tags allplugins -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/coredns ./cmd/rsp

## run: a name server on port 1053 with nine sample elements; Ctrl-C ends it
.PHONY: run
run: build
	@test/demo/run

## short: format, vet and the quick tests: under a minute, the first time some minutes; installs no packages
.PHONY: short
short: format
	$(GO) vet ./...
	@$(TEST) -short $(QUICK)

## units: the Go tests, except those that measure a whole server (TESTFLAGS=-count=1: without the cache)
.PHONY: units
units:
	@$(TEST) $(RACE) $(TESTFLAGS) $$($(GO) list $(UNITS) | grep -vx "$$($(GO) list $(PURE))")
	@$(TEST) $(TESTFLAGS) $(PURE)

## test: all tests, also in the kernel lab if it is available
# The packages that measure a whole server run alone. They build that server, so their
# results cannot be cached (-count=1). test/clients has the clients of others, for which the
# race detector would only take time.
.PHONY: test
test: local lab

## local: the tests of `make test` that need no kernel lab
.PHONY: local
local: build
	@test/setup
	@$(GO) run ./test/network/check
	@$(MAKE) --no-print-directory units
	@$(TEST) $(RACE) -count=1 -p 1 ./test/bench ./test/hostile ./test/soak
	@$(TEST) -count=1 ./test/clients

## lab: the tests in the kernel lab (kernel SCTP, RSPLIB, DNS clients)
.PHONY: lab
lab:
	@test/setup
	@test/lab/all

## check: format, vet, staticcheck, and the rules of this module (test/lint)
.PHONY: check
check: format
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/lint ./test/lint
	$(GO) vet -vettool=$(BIN)/lint ./...
	cd test/clients/apps && $(GO) vet ./... && $(GO) vet -vettool=../../../$(BIN)/lint ./...
	$(GO) run ./test/lint/unused ./...

.PHONY: format
format:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-formatted:"; gofmt -l .; exit 1; }

## soak: load, faults and clients in their long forms, about an hour
.PHONY: soak
soak: build
	$(GO) test ./test/soak -long -v -timeout 60m
	$(GO) test ./test/network -long -v -timeout 60m -run 'CutOff|Loss'
	@! test/lab/check-packages || test/lab/gotest ./test/soak -t 1h -run Lab -long -v
	@! test/lab/check-packages || test/lab/gotest ./test/network -t 20m -run 'Loss$$' -long -v
	@! test/lab/check-packages || test/lab/gotest ./test/interop -t 1h -run 'Reference.*(Silence|Restart|Loss)' -long -v
	$(GO) test ./test/hostile -long -v -timeout 60m
	$(GO) test ./test/clients -long -v -timeout 60m -run 'Churn|Policy|Load|LanguageSRV'

## sim: registrars and elements in virtual time, SEEDS of each kind (300), and LARGE registrars (100)
SEEDS ?= 300
LARGE ?= 100
.PHONY: sim
sim:
	SIM_SEEDS=$(SEEDS) SIM_LARGE=$(LARGE) $(GO) test -timeout 0 ./test/sim

## fuzz: each fuzz target for FUZZTIME (100000x is a number of inputs, 1m a time)
.PHONY: fuzz
fuzz:
	@test/fuzz $(FUZZTIME)

## bench: the figures of docs/performance.md, as a table (ten to fifteen minutes)
.PHONY: bench
bench: build
	$(GO) run ./test/bench

## clean: delete what the other targets made
.PHONY: clean
clean:
	rm -rf $(BIN)

## help: this list
.PHONY: help
help:
	@sed -n 's/^## /  /p' Makefile
