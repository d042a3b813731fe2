"""Language models behind an OpenAI-compatible endpoint: remote.py asks, the other files serve it. Without torch."""
