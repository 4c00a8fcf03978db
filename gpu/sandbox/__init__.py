"""Decode untrusted bytes in separate processes under limits."""
