"""Near-expert policies with their action values."""
