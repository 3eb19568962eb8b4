"""State sources: which states the objective sees."""
