"""Matches, review and search by image in the admin; also products, whose pages show their matches."""

from matching.admin import matches, search_by_image

__all__ = ["matches", "search_by_image"]
