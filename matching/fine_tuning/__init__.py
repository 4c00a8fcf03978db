"""Train an encoder on the catalogue's views and decisions."""
