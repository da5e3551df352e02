"""Conda packages that the user adds to those of the agent."""
