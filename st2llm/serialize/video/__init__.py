"""Videos as text: variables of the templates computed from frames."""
