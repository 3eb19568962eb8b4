"""Search over distillation settings."""
