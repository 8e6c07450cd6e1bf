"""Somebody else's graph: read, understood, made to run and to end in logits."""
