"""Pictures, label files and class lists: found, read, checked, turned into samples."""
