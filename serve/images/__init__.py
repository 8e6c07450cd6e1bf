"""Picture files in and out, and labels painted."""
