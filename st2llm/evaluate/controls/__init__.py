"""Data with a known answer: planted text controls and planted faults."""
