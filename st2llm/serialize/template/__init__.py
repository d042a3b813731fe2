"""Prompt templates: YAML head, sandboxed Jinja body, token budget."""
