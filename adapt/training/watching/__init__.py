"""What is seen of a training without labels of the target, and what follows from it."""
