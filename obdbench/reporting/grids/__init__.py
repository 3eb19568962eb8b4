"""Results as grids of scores, and the statistics of them."""
