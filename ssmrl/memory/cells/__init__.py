"""One module per family of memory cells."""
