"""Offline behavior distillation: settings, synsets, the outer loop and its gradients."""
