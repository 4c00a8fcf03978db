"""Read and write tables of text: CSV and XLSX."""
