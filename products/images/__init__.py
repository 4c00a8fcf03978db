"""Check, clean and store uploaded images, and add them to products."""
