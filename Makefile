.DEFAULT_GOAL := help

GO       ?= go
FUZZ     ?= .
FUZZTIME ?= 30s
BIN      := bin
TOOLS    := $(BIN)/tools
# Of one package's tests; all together end within ten minutes on two cores.
TIMEOUT  := 9m

.PHONY: run test build lint bench storm conformance conformance-quick fuzz e2e fmt clean help compiler tools

run: build ## run everything with a private PostgreSQL and sample data; Ctrl-C stops it
	@$(BIN)/billproxy dev

test: compiler ## unit, simulation and e2e tests with the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout $(TIMEOUT) ./...

build: ## build bin/billproxy, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/billproxy ./cmd/billproxy

lint: tools ## format, vet, static analysis, layer rules, known vulnerabilities
	$(GO) vet ./...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	$(TOOLS)/golangci-lint run ./...
	@echo $(TOOLS)/govulncheck ./...; \
	report=$$($(TOOLS)/govulncheck ./... 2>&1); code=$$?; echo "$$report"; \
	case "$$report" in \
	*"fetching vulnerabilities"*) echo "warning: not checked, the vulnerability database is out of reach" >&2;; \
	*) exit $$code;; \
	esac

bench: build ## compare with PgBouncer and Odyssey; takes half an hour, writes docs/benchmarks
	$(GO) run ./test/bench -out docs/benchmarks $(BENCH)

storm: build ## what a stall or a retry storm does to each of them; half an hour, writes docs/storm
	$(GO) run ./test/storm -out docs/storm $(STORM)

conformance: build compiler ## other people's tests, directly and through the proxy; takes an hour, writes docs/compatibility.md
	$(GO) run ./test/conformance $(CONFORMANCE)

conformance-quick: build compiler ## of those, what takes a few minutes
	$(GO) run ./test/conformance -quick $(CONFORMANCE)

# An input that fails is written to testdata. Without one, Go 1.26 may yet take the end of the
# time for a failure, see https://go.dev/issue/75804.
fuzz: ## every fuzz target whose name matches FUZZ, for FUZZTIME (30s) each
	@set -e; found=; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	for folder in $$(grep -rlE '^func Fuzz' --include='*_test.go' --exclude-dir=bin . | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -hoE '^func Fuzz\w+' $$folder/*_test.go | sed 's/^func //' | grep -E '$(FUZZ)'); do \
			found=yes; \
			echo "$(GO) test -run '^$$' -fuzz '^$$target$$' -fuzztime $(FUZZTIME) $$folder"; \
			{ $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$folder 2>&1 || echo "$$target has failed"; } | tee "$$log"; \
			if grep -qx "$$target has failed" "$$log"; then \
				grep -qx '    context deadline exceeded' "$$log" && ! grep -q 'Failing input' "$$log" || exit 1; \
				echo "it has not: the time was up"; \
			fi; \
		done; \
	done; \
	test -n "$$found" || { echo "no fuzz target matches $(FUZZ)" >&2; exit 1; }

e2e: compiler ## the tests of the built binary on a real PostgreSQL only
	CGO_ENABLED=1 $(GO) test -race -timeout $(TIMEOUT) ./test/e2e/...

fmt: tools ## format the code
	$(TOOLS)/golangci-lint fmt ./...

clean: ## remove what was built; the data of `make run` stays in .billproxy
	rm -rf $(BIN)

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The race detector is linked by a C compiler.
compiler:
	@cc=$$($(GO) env CC | cut -d' ' -f1); \
	if command -v "$$cc" >/dev/null; then exit 0; fi; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing gcc for the race detector" >&2; \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev; \
	else \
		echo "the race detector needs a C compiler: install gcc or clang" >&2; exit 1; \
	fi

# The versions are pinned in test/tools/go.mod.
tools:
	@mkdir -p $(TOOLS)
	@cd test/tools && $(GO) build -o ../../$(TOOLS)/ tool
