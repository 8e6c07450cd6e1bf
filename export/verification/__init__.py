"""A file against its reference: the comparison, the counts, the verdict."""
