"""The project's own admin: users, roles, and the pages that belong to no model."""

from catalogmatch.admin import device, history, home, preferences, tokens, users

__all__ = ["device", "history", "home", "preferences", "tokens", "users"]
