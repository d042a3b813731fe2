"""What a comparison or a training run will do: its arms and expected cost."""
