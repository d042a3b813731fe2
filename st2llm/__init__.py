"""Put spatio-temporal data into a language model."""
