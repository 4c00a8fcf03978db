"""Who changed what, and when: recorded with each change and read as one timeline."""
