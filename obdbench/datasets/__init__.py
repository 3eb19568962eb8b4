"""Offline datasets: formats, sources and downloads."""
