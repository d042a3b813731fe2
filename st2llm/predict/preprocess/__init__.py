"""Preprocessors: from samples to the tensors that every arm of a comparison receives, and back to raw units."""
