"""The HTTP API of products, their images and the queue."""
