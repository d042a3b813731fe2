"""Running a suite: plan, jobs, runners and the run folder."""
