"""Where data sets keep their pictures and labels, one kind of layout per file."""
