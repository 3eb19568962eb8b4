"""Tables of grids: cells, captions, and all tables of a suite."""
