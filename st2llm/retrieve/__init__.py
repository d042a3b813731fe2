"""What resembles a sample: train windows by their shape, documents by their words."""
