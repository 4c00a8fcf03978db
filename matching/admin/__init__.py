"""Matches, review and search by image in the admin; also products, whose pages show their matches."""

from matching.admin import agreement, matches, model_versions, search_by_image

__all__ = ["agreement", "matches", "model_versions", "search_by_image"]
