"""Meta-gradients in the limit of infinitely wide students."""
