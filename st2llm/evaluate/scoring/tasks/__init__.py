"""Scores of particular tasks: faults, and regions of interest of a forecast."""
