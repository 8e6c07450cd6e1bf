"""Statistics of any model, gathered without labels."""
