"""Student policies as functions: parameters in, actions out."""
