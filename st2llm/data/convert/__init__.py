"""Makes containers from objects of pandas, numpy, xarray and Hugging Face, and turns them into such objects."""
