"""Weights that lie in a file beside a graph because one ONNX file can't hold them."""
