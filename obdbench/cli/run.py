"""The commands that run trials: ``run``, ``compare`` and ``tune``."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from obdbench.cli.options import (
    Address,
    Datasets,
    Device,
    Executor,
    Memory,
    Out,
    Plugins,
    PresetName,
    Protocols,
    Seeds,
    Sets,
    Threads,
    Timeout,
    Workers,
    load_plugin_options,
    parse_assignments,
    parse_seed_option,
)
from obdbench.errors import InvalidSettingError, strip_control_characters

if TYPE_CHECKING:
    from obdbench.execution.run import Plan, Summary

INTERRUPTED = 130


def run(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")],
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="Only this; may be repeated.")
    ] = None,
    dataset: Datasets = None,
    protocol: Protocols = None,
    seeds: Seeds = None,
    preset: PresetName = None,
    set_: Sets = None,
    plugin: Plugins = None,
    executor: Executor = "local",
    address: Address = None,
    workers: Workers = None,
    threads: Threads = 1,
    memory: Memory = 2.0,
    device: Device = "cpu",
    timeout: Timeout = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Run exactly what has no result yet.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget earlier results of these trials.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Like --resume, and failed trials as well.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print trials, time, memory, what is done.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")
    ] = False,
    out: Out = Path("results"),
) -> None:
    """Run a suite: every trial becomes one result file below OUT/SUITE."""
    from obdbench.execution import run as runner
    from obdbench.experiments.suite import load_suite

    if resume and fresh:
        raise InvalidSettingError("--resume and --fresh contradict each other.", "Give one.")
    if retry_failed and fresh:
        raise InvalidSettingError(
            "--retry-failed and --fresh contradict each other.", "--fresh runs failed trials too."
        )
    options = runner.ExecutionConfig(
        out=out,
        executor=executor,
        address=address,
        workers=workers,
        threads=threads,
        memory=memory,
        device=device,
        timeout=timeout,
        existing="resume" if resume or retry_failed else "fresh" if fresh else "refuse",
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        plugins=tuple(plugin or ()),
    )
    load_plugin_options(options.plugins)
    grid = load_suite(suite).select(
        objectives=objective or (),
        datasets=dataset or (),
        protocols=protocol or (),
        seeds=parse_seed_option(seeds),
        preset=preset,
        settings=parse_assignments(set_),
    )
    plan = runner.plan(grid, options)
    if dry_run:
        preview(plan)
        return
    finish(runner.execute(plan), f"obdbench run {suite}")


def preview(plan: Plan) -> None:
    """What ``--dry-run`` prints."""
    from obdbench.execution.estimate import estimate
    from obdbench.experiments.spec import label_trials

    total = estimate(plan)
    states = {"missing": "to run", "ok": "done"}
    todo = {spec.key for spec in plan.todo}
    for spec, label in zip(plan.specs, label_trials(plan.specs), strict=True):
        state = states.get(plan.status[spec.key], plan.status[spec.key])
        state = "to run" if spec.key in todo else state
        amount = f"{len(spec.seeds)} seed{'s' if len(spec.seeds) > 1 else ''}"
        typer.echo(strip_control_characters(f"{spec.key}  {state:<8} {label} ({amount})"))
    typer.echo(f"{len(plan.specs)} trials, {len(todo)} to run. {total}")


def finish(summary: Summary, command: str, *, resume: bool = True) -> None:
    """Say what became of a run and how to go on, and exit with what it means.

    ``resume`` says that the command takes ``--resume``; without it, it goes on by itself.
    """
    counts = Counter(summary.status.values())
    for key, error in summary.errors.items():
        typer.echo(strip_control_characters(f"{summary.status[key]} {key}: {error}"), err=True)
    order = ("ok", "failed", "timeout", "missing")
    said = ", ".join(f"{counts[kind]} {kind}" for kind in order if counts[kind])
    typer.echo(f"{said} in {summary.store.folder}")
    if told := where_to_look(summary):
        typer.echo(strip_control_characters(told), err=True)
    go_on = f"go on with: {command} …{' --resume' if resume else ''}"
    if summary.ended == "interrupted":
        typer.echo(f"Interrupted; {go_on}", err=True)
        raise typer.Exit(INTERRUPTED)
    if summary.ended:
        typer.echo(f"The run {summary.ended}; {go_on}", err=True)
    elif summary.errors:
        again = f"{command} …{' --retry-failed' if resume else ''}"
        typer.echo(f"To try these again: {again}", err=True)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def where_to_look(summary: Summary) -> str:
    """Where the tracebacks of failed trials lie, and what else finds the line; empty without."""
    store = summary.store
    logs = {key: path for key in summary.errors if (path := Path(store.log(key))).is_file()}
    if not logs:
        return ""
    said = f"Traceback: {next(iter(logs.values()))}."
    if len(logs) > 1:
        said = f"Tracebacks: {store.folder / 'KEY.log'} for each KEY above."
    results = (store.result(key) for key in logs)
    if any("objective" in result.spec.code for result in results if result is not None):
        said += " `obdbench validate` checks an objective of your own and names the line."
    return said


def compare(
    objectives: Annotated[
        list[str],
        typer.Argument(
            help="Two or more; the first is judged. One of several of a name is named as tables "
            "name it: 'sdw (base=pbc)'."
        ),
    ],
    dataset: Datasets = None,
    suite: Annotated[
        str, typer.Option("--suite", help="Suite whose settings and datasets are used.")
    ] = "quick",
    protocol: Protocols = None,
    seeds: Seeds = None,
    preset: PresetName = None,
    set_: Sets = None,
    plugin: Plugins = None,
    executor: Executor = "local",
    address: Address = None,
    workers: Workers = None,
    threads: Threads = 1,
    memory: Memory = 2.0,
    device: Device = "cpu",
    timeout: Timeout = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table as well.")] = False,
    out: Out = Path("results"),
) -> None:
    """Run what is missing, failed or timed out, and say which objective is better, how surely."""
    from obdbench.execution import run as runner
    from obdbench.experiments.suite import load_suite
    from obdbench.reporting import compare as report

    options = runner.ExecutionConfig(
        out=out,
        executor=executor,
        address=address,
        workers=workers,
        threads=threads,
        memory=memory,
        device=device,
        timeout=timeout,
        existing="resume",
        retry_failed=True,
        plugins=tuple(plugin or ()),
    )
    load_plugin_options(options.plugins)
    rows = report.resolve_row_names(objectives)
    grid = load_suite(suite).select(
        objectives=list(dict.fromkeys(map(report.objective_name, rows))),
        datasets=dataset or (),
        protocols=protocol or (),
        seeds=parse_seed_option(seeds),
        preset=preset,
        settings=parse_assignments(set_),
    )
    results, summary = runner.collect(grid.model_copy(update={"name": "compare"}), options)
    if summary is not None and (summary.ended or summary.exit_code):
        finish(summary, f"obdbench compare {shlex.join(rows)}", resume=False)
    show_comparison(report, results, rows, latex)


def show_comparison(report: Any, results: Any, objectives: list[str], latex: bool) -> None:
    """Print the verdict."""
    lines = report.compare_markdown(results, objectives, latex=latex).split("\n")
    typer.echo("\n".join(map(strip_control_characters, lines)))


def tune(
    objective: Annotated[str, typer.Argument(help="The objective to tune.")],
    dataset: Datasets = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            help="What to search: outer_lr=0.001:0.1 (log), beta=0,0.02,0.1; may be repeated.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Settings to try.")] = 16,
    criterion: Annotated[
        str, typer.Option("--criterion", help="offline (held-out states) or returns.")
    ] = "offline",
    name: Annotated[str | None, typer.Option("--name", help="Name of the new preset.")] = None,
    seeds: Seeds = "0",
    preset: PresetName = "fast",
    set_: Sets = None,
    plugin: Plugins = None,
    address: Address = None,
    workers: Workers = None,
    threads: Threads = 1,
    device: Device = "cpu",
    search_seed: Annotated[int, typer.Option("--search-seed", help="Of the search.")] = 0,
) -> None:
    """Search settings with Ray Tune's ASHA, and save the best as a preset."""
    from obdbench.tuning import api as tuning
    from obdbench.tuning.search_space import SearchConfig, parse_ranges

    load_plugin_options(plugin)
    search = SearchConfig(
        objective=objective,
        datasets=tuple(dataset or tuning.DEFAULT_DATASETS),
        ranges=parse_ranges(param or ()),
        trials=trials,
        criterion=criterion,
        seeds=parse_seed_option(seeds),
        preset=preset or "fast",
        settings=parse_assignments(set_),
        search_seed=search_seed,
    )
    outcome = tuning.tune_settings(
        search,
        name=name or f"{objective}-tuned",
        plugins=tuple(plugin or ()),
        address=address,
        workers=workers,
        threads=threads,
        device=device,
    )
    typer.echo(outcome.format_summary())
