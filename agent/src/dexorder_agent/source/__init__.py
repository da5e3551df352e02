"""Reads indicators and strategies from their Python source without running it."""
