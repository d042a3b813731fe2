"""Lengths of time in seconds."""

HOUR_S = 3_600
DAY_S = 86_400
MONTH_S = 2_629_746
"""The step of monthly data: the mean Gregorian month. Time stamps of monthly data are calendar months apart."""
