"""Calibration of gains: how often intervals cover planted gains, and how often verdicts are false or missed."""
