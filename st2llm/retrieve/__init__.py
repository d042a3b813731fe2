"""Retrieval of similar training windows and of relevant documents."""
