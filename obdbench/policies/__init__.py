"""Student policies as pure functions of stacked parameters."""
