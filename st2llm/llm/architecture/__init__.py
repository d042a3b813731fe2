"""What differs between the architectures of language models: where their layers are, and how they read positions."""
