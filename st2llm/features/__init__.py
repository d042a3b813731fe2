"""Frozen text and image encoders, loaded once: sentences, frames and clips as vectors and words."""
