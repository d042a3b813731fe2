"""Training objectives: supervised, masked, contrastive, diffusion, and alignment with a language model."""
