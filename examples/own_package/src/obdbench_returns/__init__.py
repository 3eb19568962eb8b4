"""An objective, two datasets, a teacher, a task, a protocol and an architecture for obdbench."""
