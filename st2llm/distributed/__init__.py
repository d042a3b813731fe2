"""Comparisons whose jobs several processes run: parts of one folder, Ray, SLURM."""
