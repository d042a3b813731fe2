"""What a comparison will do: its checks before anything trains, and its expected cost."""
