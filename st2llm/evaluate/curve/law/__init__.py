"""How the error falls with parameters and data: a law, its intervals, and when it does not hold."""
