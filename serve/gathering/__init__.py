"""What a model sees in the field: logits counted while it segments, in a file that adds up with others."""
