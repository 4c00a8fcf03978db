"""Redis stops, freezes, refuses or holds foreign data."""
