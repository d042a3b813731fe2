"""Builds containers from data cards and their files, with one module for each kind of data."""
