"""An MCP server with the tools, resources and prompts that the official conformance suite asks for."""
