"""Text encoders: models that turn words into vectors in the space of an image encoder."""
