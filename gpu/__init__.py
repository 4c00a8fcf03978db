"""From pixels to vectors: decoding, CLIP, legacy features, devices. Knows nothing about products."""
