"""Fetch images from the addresses that imports name. The table of downloads is the queue."""
