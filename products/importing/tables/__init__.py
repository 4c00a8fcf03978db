"""From the cells of a table to rows of an import: headers, keys, references, and rows that belong together."""
