"""Frozen text and image encoders, each loaded once per process."""
