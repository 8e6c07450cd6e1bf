"""What the values in label files mean, as people write it down, and what is said of them."""
