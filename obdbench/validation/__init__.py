"""Contract checks for registered components."""
