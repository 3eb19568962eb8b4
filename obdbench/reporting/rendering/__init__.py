"""Tables and grids as Markdown, LaTeX, text and plots."""
