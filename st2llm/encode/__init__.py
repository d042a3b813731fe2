"""Containers to tokens to embeddings: the one encoder that transferred and primitive arms share."""
