# Every module of the repository, the root first. A new go.mod is found by itself.
MODULES := $(shell git ls-files '*go.mod' 'go.mod' | xargs -n1 dirname | sort -u)
GO ?= go
LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
BENCHSTAT := $(GO) run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

.PHONY: all demo test install vet race plain unit lint fuzz bench bench-peers scale figures chaos help

all: test

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: ## counter page on several nodes: open the address it prints
	$(GO) run ./cmd/sessionring demo

test: install vet race plain ## everything: installs what is missing, then all tests of all modules on real servers
	@echo "all modules passed"

install: ## redis-server, php, chromium, where they are missing
	@.ci/install

vet:
	@set -e; for m in $(MODULES); do (cd $$m && $(GO) vet ./...); done

# One package at a time: they start servers, and two cores are few. A test that lacks a server or PHP skips on a developer's machine and fails here.
race:
	@set -e; for m in $(MODULES); do echo "== $$m"; (cd $$m && SESSIONRING_REQUIRE=1 $(GO) test -race -p 1 -timeout 20m ./...); done

# What the race detector changes or makes too slow.
plain:
	SESSIONRING_REQUIRE=1 $(GO) test -count=1 -run '^(TestNoAllocations|TestThousandNodes)$$' .
	cd test && SESSIONRING_REQUIRE=1 $(GO) test -count=1 -run '^TestAllocationsOfOurs$$' ./peers

unit: ## quick tests of the root module, without the race detector
	$(GO) test -short ./...

lint: ## golangci-lint over every module
	@set -e; for m in $(MODULES); do echo "== $$m"; (cd $$m && $(LINT) run ./...); done

FUZZTIME ?= 30s
fuzz: ## each fuzzer for FUZZTIME
	@set -e; for p in . ./phpsession; do \
		for f in $$(cd $$p && grep -hoE '^func (Fuzz[A-Za-z0-9]+)' *_test.go | awk '{print $$2}'); do \
			echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done

bench: ## the root module's benchmarks, beside go-redis and its Ring where there is a counterpart
	$(GO) test -run '^$$' -bench . -benchmem -count 6 . | tee bench.out
	$(BENCHSTAT) bench.out

bench-peers: ## a session request against other Go clients and session stores: rewrites the tables and pictures of docs/performance.md
	cd test && $(GO) run ./peers -write $(CURDIR)/docs
	cd test && $(GO) run ./peers -saturation -write $(CURDIR)/docs
	cd test && $(GO) run ./peers -large -write $(CURDIR)/docs
	cd test && $(GO) run ./peers -memory -write $(CURDIR)/docs

scale: ## compute docs/scale.md anew: 3 to 1,000 nodes, up to a billion sessions
	cd test && $(GO) run ./scale -write $(CURDIR)/docs

figures: ## redraw the pictures of the docs
	cd test && SESSIONRING_FIGURES=$(CURDIR)/docs/figures SESSIONRING_REQUIRE=1 $(GO) test -count=1 -timeout 30m ./faults ./browser

CHAOS ?= 1h
chaos: ## a random schedule of faults for CHAOS, with a printed seed
	cd test && SESSIONRING_CHAOS=$(CHAOS) SESSIONRING_FULL=1 SESSIONRING_REQUIRE=1 $(GO) test -count=1 -timeout 0 -v -run 'Chaos' ./faults
