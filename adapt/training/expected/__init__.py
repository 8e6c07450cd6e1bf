"""What a training will cost on this machine, before it begins."""
