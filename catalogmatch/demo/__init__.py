"""The demo: a small catalogue with images, two users and an API token to try CatalogMatch with."""
