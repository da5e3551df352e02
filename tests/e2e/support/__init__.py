"""What the real-cluster tests and the benchmarks share: kubectl, tokens, MCP clients, waiting."""
