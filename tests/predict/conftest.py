"""Tiny language models for the tests of this folder."""

from tiny_llm import tiny

__all__ = ["tiny"]
