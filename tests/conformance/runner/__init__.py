"""Runs the conformance suite through the gateway."""
