"""Selection methods: which real transitions become pairs; one short file per method."""
