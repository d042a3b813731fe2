"""Similar windows by shape, similar documents by text: indexes that are fitted on train."""
