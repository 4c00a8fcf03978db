"""Matches, review and search by image in the admin; also products, whose pages show their matches."""

from matching.admin import duplicates, matches, model_versions, policies, quality, search_by_image

__all__ = ["duplicates", "matches", "model_versions", "policies", "quality", "search_by_image"]
