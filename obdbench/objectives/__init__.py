"""What makes a policy good on a dataset: one short file per objective."""
