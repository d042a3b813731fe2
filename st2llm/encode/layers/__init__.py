"""Layers that encoders and small backbones are built of."""
