"""Windows, samples and splits, one module for each kind of data."""
