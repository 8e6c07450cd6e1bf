"""Adaptation: labelled source and unlabelled target in, a run folder out. Knows no ONNX and no serving."""
