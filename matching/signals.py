"""A saved picture wakes the worker after the commit; features that were stored are announced."""
