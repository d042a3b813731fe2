"""Many prompts through one frozen model on this machine: engine.py asks, the other files serve it."""
