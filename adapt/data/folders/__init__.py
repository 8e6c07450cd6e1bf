"""Folders of pictures and videos: what is in them, and what of it is no picture of its own."""
