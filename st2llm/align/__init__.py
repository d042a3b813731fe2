"""Bridges between the encoder's space and the language model's: heads, splicing, adapters."""
