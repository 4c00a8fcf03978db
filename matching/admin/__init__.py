"""Matches, review and search by image in the admin; also products, whose pages show their matches."""

from matching.admin import agreement, duplicates, matches, model_versions, policies, quality, search_by_image

__all__ = ["agreement", "duplicates", "matches", "model_versions", "policies", "quality", "search_by_image"]
