"""Tables, plots and pages computed from result files."""
