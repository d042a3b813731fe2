"""Training on clips: on questions about them with computed answers, with and without a language model."""
