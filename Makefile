# Grapnel. `make` lists the targets. Needs Go and git; race needs gcc, too.

VERSION   ?= 0.1.0-dev
PLUGINS   := $(notdir $(wildcard plugins/*))
MODULES   := . sdk $(addprefix plugins/,$(PLUGINS)) $(patsubst %/go.mod,%,$(wildcard examples/*/go.mod))
# Modules whose dependencies are kept tidy; the last three are for the tests behind the tag foreign only.
TIDIED    := $(MODULES) tools/release $(addprefix core/internal/foreign/,pocketbase browser otelcol)
LDFLAGS   := -s -w -X main.version=$(VERSION) -X github.com/grapnelhq/grapnel/sdk/serve.version=$(VERSION)
GO_BUILD  := CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"
TOOLS     := $(CURDIR)/bin/tools
FUZZTIME  ?= 10s
FUZZ      ?=

.PHONY: tools help build test race demo bench fuzz lint fmt generate verify tidy alone clean foreign ui crash parked replay upgrade reload release $(PLUGINS)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: bin/grapnel $(PLUGINS) ## build bin/grapnel and bin/plugins/grapnel-<kind>-<name>

.PHONY: bin/grapnel
bin/grapnel:
	$(GO_BUILD) -o $@ ./core/cmd/grapnel

$(PLUGINS):
	$(GO_BUILD) -o bin/plugins/grapnel-$@ ./plugins/$@

demo: build ## build all, run the host on config.hcl and send it a sample of every event type; ONCE=1: stop then
	@go build -o bin/demo ./core/internal/demo
	@exec bin/demo $(if $(ONCE),-once)

test: ## run all tests; needs Go only
	go test work

# Under the race detector SQLite, which is Go too, takes ten times as long: what says nothing about goroutines stays out,
# as does what only runs other programs.
RACE_SKIP := ^(TestScripts|TestConformanceSmallBatches|TestDedupeIndex|TestLogSize|TestFilters|TestNothingInFreePages|TestShortPages)$$

race: ## run the tests that races could show in under the race detector; needs gcc
	CGO_ENABLED=1 go test -race -skip '$(RACE_SKIP)' $$(go list work | grep -v -e /internal/e2e$$ -e /internal/rules$$)

foreign: ## run the tests that need more than Go (strace, jq, zstd, node, npm, trytond, chromium, prometheus); a missing tool fails
	cd core/internal/foreign/npm && npm ci --ignore-scripts --no-audit --no-fund
	go test -tags foreign -count=1 -timeout 20m ./core/internal/foreign/...
	go test -tags foreign -count=1 -timeout 10m ./core/internal/foreign/browser
	for m in plugins/*/conformance; do (cd $$m && GOWORK=off go test -count=1 ./...) || exit 1; done

ui: ## run the browser's tests over 1 000 000 requests (3 GB, made first) and keep pictures of the pages, all in bin/ui
	mkdir -p bin/ui
	cd core/internal/foreign/npm && npm ci --ignore-scripts --no-audit --no-fund
	GRAPNEL_MILLION_DIR=$(CURDIR)/bin/ui go test ./core/store/sqlite -run '^$$' -bench Million -benchtime 1x -timeout 1h
	go test -tags foreign -count=1 -timeout 20m -v ./core/internal/foreign/browser \
		-ui.database=$(CURDIR)/bin/ui/grapnel.db -ui.pictures=$(CURDIR)/bin/ui

crash: ## kill the host again and again under load and count what is lost, or out of order: nothing
	go test ./core/internal/e2e -count=1 -timeout 20m -v -run TestHostKilled -crash.kills=20 -crash.events=100000 \
		-crash.http.kills=20 -crash.http.events=100000
	go test ./core/internal/e2e -count=1 -timeout 20m -v -run TestOrderAmongFailures -order.keys=100 -order.each=1000 -order.kills=5

parked: ## have 100 000 deliveries wait for a sink that is down, in three ways, on fake time
	go test ./core/engine -count=1 -timeout 20m -v -run TestParked -parked 100000

replay: ## replay 50 000 dead letters on a running host, interrupted once: each is replayed once, and accepts go on
	go test ./core/internal/e2e -count=1 -timeout 20m -v -run TestReplay -replay.letters=50000

upgrade: ## upgrade plugins under 2 000 events/s and tell the longest pause of each sink, and what is lost: nothing
	go test ./core/internal/e2e -count=1 -timeout 20m -v -run TestUpgradeUnderLoad -upgrade.rate=2000 -upgrade.rounds=3 \
		-upgrade.trial=1s

reload: ## reload 100 configurations, valid and not, under 1 000 events/s: nothing is lost, order holds; tells p99 of accepts
	go test ./core/internal/e2e -count=1 -timeout 20m -v -run TestReloadUnderLoad -reload.count=100 -reload.rate=1000

bench: build ## measure accept and end to end against a bare server; takes some minutes
	go run ./core/internal/bench

fuzz: ## run every fuzz target, or those that match FUZZ, for FUZZTIME
	@go run ./core/internal/fuzzall -time $(FUZZTIME) -only '$(FUZZ)'

release: ## make archives, Debian and RPM packages and container images of all targets, into dist/
	cd tools/release && GOWORK=off go build -o $(TOOLS)/release .
	$(TOOLS)/release -version $(VERSION) -out dist

tools: ## build the pinned linters and generators into bin/tools
	@mkdir -p $(TOOLS)
	cd tools && GOWORK=off go build -o $(TOOLS)/ tool

lint: tools ## lint, vet, and check the wire contract
	$(TOOLS)/golangci-lint run ./core/... $(patsubst %,./%/...,$(filter-out .,$(MODULES)))
	go vet work
	cd tools/release && GOWORK=off go vet ./...
	cd sdk/proto && $(TOOLS)/buf lint

fmt: ## format
	gofmt -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')

generate: tools ## generate the wire code
	cd sdk/proto && PATH=$(TOOLS):$$PATH buf generate

tidy: ## tidy every module
	for m in $(TIDIED); do (cd $$m && GOWORK=off go mod tidy) || exit 1; done
	go work sync

alone: ## build and vet every module on its own, without the workspace
	for m in $(MODULES); do (cd $$m && echo "GOWORK=off $$m" && GOWORK=off go build ./... && GOWORK=off go vet ./...) || exit 1; done

verify: generate ## what CI checks besides tests: generated code and modules are clean
	git diff --exit-code -- sdk/proto
	for m in $(TIDIED); do (cd $$m && GOWORK=off go mod tidy -diff) || exit 1; done
	test -z "$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$'))"

clean: ## remove what was built
	rm -rf bin dist
