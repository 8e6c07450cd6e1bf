"""Serving: runs deployable graphs on images and videos. Never imports torch, onnx, adapt or export."""
