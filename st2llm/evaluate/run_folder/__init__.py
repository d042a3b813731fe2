"""The folder of a run: how it is written while arms finish, and read back afterwards."""
