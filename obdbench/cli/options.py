"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from obdbench.errors import InvalidSettingError

Out = Annotated[Path, typer.Option("--out", help="Folder of results.", envvar="OBDBENCH_RESULTS")]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", "-d", help="Dataset id; may be repeated.")
]
Protocols = Annotated[
    list[str] | None, typer.Option("--protocol", help="Protocol; may be repeated.")
]
Seeds = Annotated[str | None, typer.Option("--seeds", help="For example 0-4, or 0,2,5.")]
PresetName = Annotated[str | None, typer.Option("--preset", help="Named settings.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting, as key=value; may be repeated."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        help="Code of your own: file.py or a module with objectives, datasets, protocols or "
        "architectures, or an objective as module:Class; may be repeated.",
    ),
]
Executor = Annotated[str, typer.Option("--executor", help="local or ray.")]
Address = Annotated[
    str | None, typer.Option("--address", help="Existing Ray cluster: auto, host:port or ray://…")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=1024, help="Trials at once; one a core by default."),
]
Threads = Annotated[
    int, typer.Option("--threads", min=1, max=1024, help="Torch threads of a trial.")
]
Memory = Annotated[
    float,
    typer.Option(
        "--memory", min=0.01, max=1e6, help="GiB for the inner loop of a trial; recomputes beyond."
    ),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0.001, help="Seconds that one trial may take.")
]


def parse_assignments(texts: Sequence[str] | None) -> dict[str, Any]:
    """``["steps=100", "schedule=cosine"]`` as a dictionary; values are TOML or plain words."""
    from obdbench.experiments.presets import parse_value

    values: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidSettingError(f"{text!r} sets nothing.", "Write key=value.")
        values[key.strip()] = parse_value(value.strip())
    return values


def seeds_of(text: str | None) -> tuple[int, ...]:
    """The seeds of ``--seeds``; none where it was not given."""
    if text is None:
        return ()
    from obdbench.experiments.suite import parse_seeds

    return parse_seeds(text)
