"""Import a catalogue from a table, a folder or a ZIP, row by row."""
