"""SQLite as CatalogMatch uses it: a Django engine with a write queue, and fresh planner statistics."""
