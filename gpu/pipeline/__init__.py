"""Many images to features: decode ahead while the device encodes."""
