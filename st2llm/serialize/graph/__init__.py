"""Sensor graphs as text: variables of the templates, network statistics, anomaly questions."""
