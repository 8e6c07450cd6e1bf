"""The network: encoder, decoder, windows, build and rebuild, where to compute."""
