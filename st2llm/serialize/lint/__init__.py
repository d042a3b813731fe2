"""Checks of prompts: leaks of the target, round trips of answers, claims checked against the data."""
