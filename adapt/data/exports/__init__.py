"""What labelling tools and libraries write, read as it is: one file for each, told by its own marks.

Each has a function `find(root, split)`: the pictures and labels in a folder, or None if the marks are not
there. It raises InputError where they are, but what they promise is not.
"""
