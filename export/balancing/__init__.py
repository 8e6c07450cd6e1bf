"""A model and footage in, a balanced file and a page about it out: calibration, strength, fold and report."""
