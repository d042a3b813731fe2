"""Reads files as typed columns and arrays: tables, rasters, and the CF conventions of NetCDF."""
