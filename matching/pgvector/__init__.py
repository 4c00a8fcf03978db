"""The engine of PostgreSQL catalogues: half-precision vectors and HNSW graphs in the database."""
