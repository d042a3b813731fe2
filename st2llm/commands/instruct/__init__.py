"""`st2llm data instruct`: prompts with their true answers as a data set for instruction tuning."""
