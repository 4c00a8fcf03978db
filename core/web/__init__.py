"""Reach other machines: what is fetched because a user named its address."""
