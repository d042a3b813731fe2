"""From predictions to scores, gains with intervals, records and the verdict."""
