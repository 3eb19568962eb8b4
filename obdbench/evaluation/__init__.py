"""Protocols that score synsets, and the students they train."""
