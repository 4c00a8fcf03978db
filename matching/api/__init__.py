"""The HTTP API of matching."""
