"""What the tables of all databases need."""
