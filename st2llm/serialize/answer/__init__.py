"""Answers: their settings, and how labels and choices are written and read."""
