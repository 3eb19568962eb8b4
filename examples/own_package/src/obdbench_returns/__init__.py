"""An objective, two datasets, a protocol and an architecture for obdbench."""
