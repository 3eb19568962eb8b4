"""Solvers: how an outer step changes the pairs, one file per method."""
