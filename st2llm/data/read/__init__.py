"""Reading files: tables, rasters and their conventions, as typed columns and arrays."""
