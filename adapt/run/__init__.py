"""The run folder: cards, tensors, checkpoints."""
