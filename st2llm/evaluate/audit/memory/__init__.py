"""Whether a language model has seen a data set: verbatim rows, names of columns, and dates."""
