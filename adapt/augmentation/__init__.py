"""Samples to training pairs: drawn, cropped, changed, mixed, hidden in part."""
