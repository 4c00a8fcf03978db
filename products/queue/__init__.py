"""The embedding queue: images wait in the database, workers claim, embed and store them."""
