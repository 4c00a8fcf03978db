"""Requests to the web server: all routes, nonsense, and bytes as they are."""
