"""Collection of offline data: the embedded datasets and the stand-ins for D4RL."""
