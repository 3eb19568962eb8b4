"""Reference rows that are not distillation: what the whole data give."""
