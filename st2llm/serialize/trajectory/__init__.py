"""Trajectories as text: fixes, stays, and answers in coordinates."""
