"""`st2llm predict`: the predictions of a checkpoint for a data set, or for what follows it, as a table and a plot."""
