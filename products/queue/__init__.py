"""Workers claim pending images from the database, embed them and store features."""
