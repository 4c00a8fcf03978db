"""Roles, the limits of what users may do to each other, sessions and API tokens."""
