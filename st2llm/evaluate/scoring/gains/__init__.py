"""Gains, their intervals and outcomes: effects of seeds and blocks, of choosing arms, of several comparisons."""
