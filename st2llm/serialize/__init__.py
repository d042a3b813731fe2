"""Containers as words and words as predictions. `KINDS` says which class writes which kind of data."""

from st2llm.serialize.graph import GraphText

KINDS = {"graph": GraphText}
