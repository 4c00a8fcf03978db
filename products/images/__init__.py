"""Uploaded images: checked, cleaned, stored and added to products."""
