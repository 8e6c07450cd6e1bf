"""What a graph takes beside the picture."""
