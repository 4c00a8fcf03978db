"""Import a catalogue from files: a table, a folder or a ZIP, row by row through the intake."""
