"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from obdbench.errors import InvalidSettingError
from obdbench.experiments.presets import parse_value
from obdbench.experiments.suite import parse_seeds

INTERRUPTED = 130  # exit code

Out = Annotated[Path, typer.Option("--out", help="Results folder.", envvar="OBDBENCH_RESULTS")]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", "-d", help="Dataset identifier; may be repeated.")
]
TaskName = Annotated[
    str | None,
    typer.Option("--task", help="Task of `file:` datasets whose identifier states no task."),
]
Protocols = Annotated[
    list[str] | None, typer.Option("--protocol", help="Protocol name; may be repeated.")
]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Seeds, such as 0-4 or 0,2,5.")]
PresetName = Annotated[
    str | None, typer.Option("--preset", help="Preset name; `obdbench list presets` lists them.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Setting to override, as key=value; may be repeated."),
]
Teachers = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        help="Teacher of all datasets, or DATASET=TEACHER: a registered name or the path of a "
        "policy; may be repeated.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        help="Python file or module with extensions (objectives, selection methods, solvers, state "
        "sources, datasets, teachers, tasks, protocols, architectures), or an objective as "
        "module:Class; may be repeated.",
    ),
]
Executor = Annotated[str, typer.Option("--executor", help="Executor: local or ray.")]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Address of a Ray cluster: auto or host:port"),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=1024,
        help="Number of parallel workers; by default `cores // threads` on CPU and two per GPU.",
    ),
]
Threads = Annotated[
    int, typer.Option("--threads", min=1, max=1024, help="PyTorch threads per trial.")
]
Memory = Annotated[
    float,
    typer.Option(
        "--memory",
        min=0.01,
        max=1e6,
        help="Memory in GiB for the inner loop of a trial; beyond it, steps are recomputed.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="Device: cpu, cuda or cuda:N.")]
Loggers = Annotated[
    list[str] | None,
    typer.Option("--log", help="Experiment logger: tensorboard, wandb or mlflow; may be repeated."),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0.001, help="Time limit per trial in seconds.")
]


def parse_assignments(texts: Sequence[str] | None) -> dict[str, Any]:
    """Parse ``["steps=100", "schedule=cosine"]`` to a dictionary of TOML values and texts."""
    values: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidSettingError(f"{text!r} is not an assignment.", "Write key=value.")
        values[key.strip()] = parse_value(value.strip())
    return values


def add_task(datasets: Sequence[str] | None, task: str | None) -> list[str]:
    """Write the task of ``--task`` into the identifiers of files that state no task."""
    if task and not any(d.startswith("file:") for d in datasets or ()):
        raise InvalidSettingError(
            "--task is the task of a file that --dataset names, and there is none.",
            "Name one, or write file:NAME#task=TASK in the suite.",
        )
    add = f"#task={task}" if task else ""
    return [f"{d}{add}" if d.startswith("file:") and "#" not in d else d for d in datasets or ()]


def parse_seed_option(text: str | None) -> tuple[int, ...]:
    """Parse ``--seeds``; empty if the option is not given."""
    return () if text is None else parse_seeds(text)
