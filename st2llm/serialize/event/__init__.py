"""Events as text: variables of the templates, and answers about the next event."""
