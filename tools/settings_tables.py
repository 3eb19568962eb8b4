"""Fill in the tables of settings in ``docs/`` from the code.

A table after the comment ``<!-- settings: KIND NAME -->`` has one row per setting. Names and
defaults come from the code. For the settings of distillation (kind ``loops``) the meaning comes
from the code as well; for objectives, protocols and the algorithms of ``obdbench teach`` (kind
``algorithms``) it is written in the page. After a change, run::

    python tools/settings_tables.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from obdbench.distillation.settings import PRESETS, DistillSettings
from obdbench.objectives.objective import parameters_of
from obdbench.offline_rl.trainer import ALGORITHMS
from obdbench.registry import objectives, protocols

ROOT = Path(__file__).parents[1]
PAGES = ("docs/concepts.md", "docs/data.md", "docs/methods.md", "docs/protocols.md")
MAX_VALUES = 9  # longer lists are abbreviated
_TABLE = re.compile(
    r"(?P<comment><!-- settings: (?P<kind>\w+) ?(?P<name>[\w+-]*) -->\n)"
    r"(?P<table>(?:\|[^\n]*\n)+)"
)
Row = dict[str, str]


def read_tables(page: str) -> Iterator[tuple[str, str, list[Row]]]:
    """Kind, name and rows of each marked table of a page."""
    for match in _TABLE.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield match["kind"], match["name"], parse_rows(match["table"])


def parse_rows(table: str) -> list[Row]:
    """The rows of a Markdown table, each a mapping from column to cell."""
    header, _, *lines = (split_cells(line) for line in table.strip().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def split_cells(line: str) -> list[str]:
    """The cells of a table line."""
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def expected_columns(kind: str, name: str) -> dict[str, Row]:
    """The columns that come from the code, by setting."""
    if kind == "loops":
        return {
            field: {"default": format_value(info.default), "meaning": str(info.description)}
            | {
                preset: format_value(values[field]) if field in values else ""
                for preset, values in PRESETS.items()
            }
            for field, info in DistillSettings.model_fields.items()
        }
    if kind == "algorithms":
        return algorithm_columns()
    defaults = parameters_of((objectives if kind == "objective" else protocols).get(name))
    return {setting: {"default": format_value(value)} for setting, value in defaults.items()}


def algorithm_columns() -> dict[str, Row]:
    """The default of every setting of offline RL, by setting and algorithm."""
    columns: dict[str, Row] = {}
    for algorithm, kind in ALGORITHMS.items():
        for field in fields(kind.settings_type):
            depends = field.default is MISSING  # on the processor
            value = "where supported" if depends else format_value(field.default)
            columns.setdefault(field.name, dict.fromkeys(ALGORITHMS, ""))[algorithm] = value
    return columns


def format_value(value: Any) -> str:
    """A value as the command line accepts it."""
    if value is None:
        return "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        cells = [format_value(item) for item in value]
        return ", ".join(cells if len(cells) <= MAX_VALUES else [*cells[:3], "…", cells[-1]])
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def update_page(page: Path) -> None:
    """Rewrite the tables of a page; a new setting of an objective or protocol has no meaning."""

    def updated_table(match: re.Match[str]) -> str:
        present = {row["setting"].strip("`"): row for row in parse_rows(match["table"])}
        header = split_cells(match["table"].splitlines()[0])
        lines = [header, [":--"] * len(header)]
        for setting, columns in expected_columns(match["kind"], match["name"]).items():
            row = {**present.get(setting, {}), **columns, "setting": f"`{setting}`"}
            lines.append([row.get(column, "") for column in header])
        return match["comment"] + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    text = page.read_text(encoding="utf-8")
    page.write_text(_TABLE.sub(updated_table, text), encoding="utf-8")


if __name__ == "__main__":
    for path in PAGES:
        update_page(ROOT / path)
