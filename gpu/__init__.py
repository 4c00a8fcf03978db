"""Pixels to vectors: decoding, CLIP, legacy features, devices. Knows nothing of products."""
