"""Bytes of an image file to RGB pixels, or a typed error."""
