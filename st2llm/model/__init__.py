"""Arms of a comparison: one encoder and head, with a backbone that is the only difference between them."""
