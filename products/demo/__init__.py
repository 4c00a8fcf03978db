"""The demo catalogue: products drawn by the program itself, so that a trial needs no pictures of one's own."""
