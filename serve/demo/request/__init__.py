"""One request: its files, values and limits, and work that ends when nobody waits for it."""
