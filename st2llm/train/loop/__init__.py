"""The training loop, on accelerate, and what it is built from: batches, a budget, memory and time measurement."""
