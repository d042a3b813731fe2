"""Training objectives: supervised, masked, contrastive, diffusion and alignment losses."""
