"""Containers to tokens to embeddings: the encoder that all trained arms share."""
