"""Adaptation: labelled source plus unlabelled target in, a run folder out. Knows nothing of ONNX or serving."""
