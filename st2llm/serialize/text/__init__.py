"""Building blocks of text that several kinds share: calendar, directions, series of numbers, statistics."""
