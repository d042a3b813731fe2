"""From finished runs to committed reports, and from these to the tables and figures of the documentation."""
