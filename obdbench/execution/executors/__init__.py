"""Executors: local worker processes and Ray."""
