"""Language models as GGUF files: named ones from packages, their licences, and the conversion to safetensors."""
