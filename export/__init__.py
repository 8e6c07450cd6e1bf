"""Export: a run folder, or anybody's ONNX segmenter, in; one deployable graph out."""

import os

# ONNX Runtime's wheels report their use to their maker unless told not to before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
