"""Charts as PNG images, drawn with numpy alone. Runs in a child of the sandbox, never in the agent's own process."""
