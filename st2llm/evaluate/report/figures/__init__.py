"""Figures of a report as deterministic SVG elements."""
