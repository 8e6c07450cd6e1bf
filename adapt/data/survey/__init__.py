"""Data looked at before it is trained on: a sample of it, or all."""
