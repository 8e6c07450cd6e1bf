"""A file opened in its runtime, pictures of any size in, label maps out."""
