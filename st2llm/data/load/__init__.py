"""From a data card and its files to a container, one module for each kind of data."""
