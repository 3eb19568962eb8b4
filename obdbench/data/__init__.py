"""Offline data: the dataset type and the places it is read from."""
