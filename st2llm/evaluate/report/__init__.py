"""The report of a run: report.md, report.html and the table in the terminal."""
