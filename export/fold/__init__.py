"""The correction as tables in an ONNX graph, and out again."""
