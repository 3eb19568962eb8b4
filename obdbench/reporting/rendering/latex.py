"""Tables as LaTeX, with the rules of the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from obdbench.reporting.tables.table import Cell, Table

SPECIAL_CHARACTERS = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "\n": " ",
}


def render_document_part(tables: Sequence[Table]) -> str:
    """Several tables, each after its title and notes as comments."""
    parts = []
    for table in tables:
        comments = [table.title, *table.notes]
        lines = [f"% {' '.join(comment.split())}" for comment in comments]
        parts.append("\n".join([*lines, render_tabular(table)]))
    return "\n\n".join(parts) + "\n"


def render_tabular(table: Table) -> str:
    """One tabular; a last row of averages is preceded by a rule."""
    header, *body = [
        f"{' & '.join(line)} \\\\"
        for line in (
            [escape_latex(column) for column in table.columns],
            *([_render_cell(cell) for cell in row] for row in table.rows),
        )
    ]
    if table.rows and table.rows[-1][0].text == "average":
        body.insert(-1, r"\midrule")
    n_numbers = len(table.columns) - table.n_text_columns
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{'l' * table.n_text_columns}{'r' * n_numbers}}}",
            r"\toprule",
            header,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _render_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    return f"\\textbf{{{text}}}" if cell.bold else text


def escape_latex(text: str) -> str:
    """Text with the special characters of LaTeX escaped."""
    return "".join(SPECIAL_CHARACTERS.get(char, char) for char in text)
