"""One step, and the loop around it: teacher, journal, album, ranks."""
