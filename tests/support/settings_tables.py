"""Tables of settings in the pages of ``docs/``: their values come from the code.

A table that follows ``<!-- settings: KIND NAME -->`` has a row for every setting. Its first column
and the columns with values follow from the code; the meaning is written by hand. After a default
has changed::

    python tests/support/settings_tables.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.doc_blocks import ROOT

from obdbench.distillation.settings import PRESETS, DistillSettings
from obdbench.objectives.objective import parameters_of
from obdbench.registry import objectives, protocols

PAGES = ("docs/concepts.md", "docs/objectives.md", "docs/protocols.md")
SHOWN = 9  # values of a list in full; longer ones are cut
_TABLE = re.compile(
    r"(?P<head><!-- settings: (?P<kind>\w+) ?(?P<name>[\w-]*) -->\n)"
    r"(?P<table>(?:\|[^\n]*\n)+)"
)
Row = dict[str, str]


def tables(page: str) -> Iterator[tuple[str, str, list[Row]]]:
    """Kind, name and rows of every marked table of a page."""
    for match in _TABLE.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield match["kind"], match["name"], rows(match["table"])


def rows(table: str) -> list[Row]:
    """A Markdown table as one dictionary a row."""
    header, _, *lines = (split(line) for line in table.strip().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def split(line: str) -> list[str]:
    """The cells of a line."""
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def due(kind: str, name: str) -> dict[str, Row]:
    """The columns that follow from the code, by setting."""
    if kind == "loops":
        return {
            field: {"default": shown(info.default)}
            | {
                preset: shown(values[field]) if field in values else ""
                for preset, values in PRESETS.items()
            }
            for field, info in DistillSettings.model_fields.items()
        }
    if kind == "objective":
        known = parameters_of(objectives.get(name))
    else:
        parameters = list(inspect.signature(protocols.get(name).__init__).parameters.values())[1:]
        known = {parameter.name: parameter.default for parameter in parameters}
    return {setting: {"default": shown(value)} for setting, value in known.items()}


def shown(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None:
        return "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        cells = [shown(item) for item in value]
        return ", ".join(cells if len(cells) <= SHOWN else [*cells[:3], "…", cells[-1]])
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def rewrite(page: Path) -> None:
    """Bring a page's tables up to date; new settings get an empty meaning."""

    def table(match: re.Match[str]) -> str:
        held = {row["setting"].strip("`"): row for row in rows(match["table"])}
        header = split(match["table"].splitlines()[0])
        lines = [header, [":--"] * len(header)]
        for setting, columns in due(match["kind"], match["name"]).items():
            row = {**held.get(setting, {}), **columns, "setting": f"`{setting}`"}
            lines.append([row.get(column, "") for column in header])
        return match["head"] + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    text = page.read_text(encoding="utf-8")
    page.write_text(_TABLE.sub(table, text), encoding="utf-8")


if __name__ == "__main__":
    for each in PAGES:
        rewrite(ROOT / each)
