# The commands of the project. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help up down token api-key test check test-unit test-agent test-cluster test-llm conformance generate bench bench-resume

help: ## lists these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

up: ## brings a cluster, builds and installs everything, waits for an example workspace (CLUSTER=local|current|kind)
	@tests/local/up

down: ## takes it all away
	@tests/local/down

token: ## prints a bearer token of the local gateway: make token USER=trader1
	@tests/local/token "$(USER)"

api-key: ## makes an API key of the local gateway and prints it: make api-key USER=trader1
	@tests/local/api-key "$(USER)"

test: ## runs every test, with the set-up that it needs
	@tests/all

check: ## formatting, lints, licences, generated files
	@tests/check

test-unit: ## the tests of the Rust crates
	cargo test --workspace --locked

test-agent: ## the tests of the agent
	agent/run-tests

test-cluster: ## the tests on a real cluster: needs make up
	tests/e2e/run

test-llm: ## holds a conversation with a real, small model: needs make up, builds the model's server
	tests/llm/run

conformance: ## the official MCP conformance suite through the gateway: needs make up
	tests/conformance/run

generate: ## writes what is generated from the Rust types
	@tests/generate

bench: ## measures resume, memory and the chat: needs make up
	tests/bench/run resume
	tests/bench/run memory
	tests/bench/run chat

bench-resume: ## fails if a resume takes more than 1.15 times as long as a bare pod: needs make up
	tests/bench/run resume --gate
