"""Labels of pictures and scores of labels; a range of strengths."""
