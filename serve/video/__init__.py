"""One video: segmented, drawn or stored, written."""
