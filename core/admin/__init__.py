"""Helpers for any list or page of the admin."""
