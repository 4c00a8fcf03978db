"""Gather what speaks for and against two products being the same, and weigh it."""
