"""Export: a run folder, or anybody's ONNX segmenter, in; one deployable graph out."""
