"""Half and integer precision, and the gates that it must pass."""
