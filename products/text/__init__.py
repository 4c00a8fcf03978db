"""Search the texts of products: substrings, words with typing errors, and names that are nearly equal."""
