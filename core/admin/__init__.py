"""Helpers for any list and page of the admin."""
