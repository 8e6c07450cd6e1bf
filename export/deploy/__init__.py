"""What other runtimes take: TensorRT engines, Triton repositories."""
