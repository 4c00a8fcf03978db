"""Image encoders: models that turn preprocessed pixels into CLIP vectors."""
