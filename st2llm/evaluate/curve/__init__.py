"""One suite for each value of a setting: error and gains against it, and where one arm overtakes another."""
