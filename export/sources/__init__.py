"""What a file can be made from and checked against: network, reference, pictures, statistics."""
