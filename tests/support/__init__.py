"""What several tests share: tiny data, tiny models, a fake run folder and a fake endpoint."""
