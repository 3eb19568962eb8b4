"""The commands that run trials: ``run``, ``compare`` and ``tune``."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from obdbench.cli.options import (
    INTERRUPTED,
    Address,
    Datasets,
    Device,
    Executor,
    Loggers,
    Memory,
    Out,
    Plugins,
    PresetName,
    Protocols,
    Seeds,
    Sets,
    TaskName,
    Teachers,
    Threads,
    Timeout,
    Workers,
    add_task,
    parse_assignments,
    parse_seed_option,
)
from obdbench.datasets.identifier import DatasetId
from obdbench.errors import InvalidSettingError, count_noun, strip_control_characters
from obdbench.execution.config import ExecutionConfig, without_folders
from obdbench.experiments.presets import load_preset
from obdbench.experiments.spec import label_trials
from obdbench.experiments.suite import Suite, load_suite, parse_teachers, split_row_settings
from obdbench.plugins import load_plugins
from obdbench.reporting.grids.suite_results import is_published

if TYPE_CHECKING:
    from obdbench.execution.run import Plan, RunSummary
    from obdbench.results.record import Result

LOCAL_SOURCES = ("embedded", "file")  # of datasets that are read without a download


def run(
    context: typer.Context,
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")],
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            help="Objective to run instead of the suite's, with its parameters if it has any: pbc, "
            "'random (labels=teacher)'. A name alone selects the suite's row without parameters, "
            "or all rows of that name if there is none. May be repeated.",
        ),
    ] = None,
    dataset: Datasets = None,
    task: TaskName = None,
    protocol: Protocols = None,
    seeds: Seeds = None,
    preset: PresetName = None,
    set_: Sets = None,
    teacher: Teachers = None,
    plugin: Plugins = None,
    executor: Executor = "local",
    address: Address = None,
    workers: Workers = None,
    threads: Threads = 1,
    memory: Memory = 2.0,
    device: Device = "cpu",
    timeout: Timeout = None,
    log: Loggers = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Run only trials that have no result.")
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Delete results and synsets of these trials, and run them."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials that have no result or have failed.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print trials and estimated time and memory; run nothing. Embedded data and files "
            "are checked, other datasets are not.",
        ),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")
    ] = False,
    out: Out = Path("results"),
) -> None:
    """Run a suite: every trial becomes one result file below OUT/SUITE."""
    from obdbench.execution import run as runner

    if resume and fresh:
        raise InvalidSettingError("--resume and --fresh contradict each other.", "Give one.")
    if retry_failed and fresh:
        raise InvalidSettingError(
            "--retry-failed and --fresh contradict each other.", "--fresh runs failed trials too."
        )
    config = ExecutionConfig(
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
        loggers=tuple(dict.fromkeys(log or ())),
        plugins=load_plugins(plugin or ()),
        command=command_words(context),
    )
    grid = load_suite(suite).select(
        objectives=objective or (),
        datasets=add_task(dataset, task),
        protocols=protocol or (),
        seeds=parse_seed_option(seeds),
        preset=preset,
        settings=parse_assignments(set_),
        teachers=teacher or (),
    )
    plan = runner.plan(grid, config)
    if dry_run:
        preview(plan)
        return
    finish(runner.execute(plan), command_line(context))


def command_line(context: typer.Context) -> str:
    """The current command line, quoted for a shell, without the options for existing results."""
    existing = ("--resume", "--fresh", "--retry-failed")
    words = (word for word in context.find_root().obj or () if word not in existing)
    return shlex.join(["obdbench", *words])


def command_words(context: typer.Context) -> tuple[str, ...]:
    """Return the words after ``obdbench``; of absolute paths, only the last part."""
    return tuple(map(without_folders, context.find_root().obj or ()))


def preview(plan: Plan) -> None:
    """Print what ``--dry-run`` shows."""
    from obdbench.execution.estimate import estimate_run
    from obdbench.execution.run import load_and_check_inputs

    load_and_check_inputs(
        [spec for spec in plan.remaining if DatasetId(spec.dataset).source in LOCAL_SOURCES]
    )
    total = estimate_run(plan)
    names = {"missing": "to run", "ok": "done"}
    remaining = {spec.key for spec in plan.remaining}
    for spec, label in zip(plan.specs, label_trials(plan.specs), strict=True):
        status = "missing" if spec.key in remaining else plan.status(spec)
        seeds = count_noun(len(spec.seeds), "seed")
        line = f"{spec.key}  {names.get(status, status):<8} {label} ({seeds})"
        typer.echo(strip_control_characters(line))
    typer.echo(f"{count_noun(len(plan.specs), 'trial')}, {len(remaining)} to run. {total}")


def finish(summary: RunSummary, command: str, *, resume: bool = True) -> None:
    """Print the outcome of a run and how to continue, and exit with its exit code.

    ``resume`` says that the command takes ``--resume``; without it, it always resumes.
    """
    from obdbench.reporting.rendering.terminal import summarize_results

    status = summary.status
    for key, error in summary.errors.items():
        typer.echo(strip_control_characters(f"{status[key]} {key}: {error}"), err=True)
    counts = Counter(status.values())
    order = ("ok", "failed", "timeout", "missing")
    text = ", ".join(f"{counts[name]} {name}" for name in order if counts[name])
    if table := summarize_results(summary.results.values(), summary.specs, summary.store.suite):
        typer.echo(table)
    typer.echo(f"{text} in {summary.store.folder}")
    if help_text := describe_tracebacks(summary):
        typer.echo(strip_control_characters(help_text), err=True)
    resumed = f"continue with: {command}{' --resume' if resume else ''}"
    if summary.stop_reason == "interrupted":
        typer.echo(f"Interrupted; {resumed}", err=True)
        sys.exit(INTERRUPTED)  # typer.Exit would print a second message
    if summary.stop_reason:
        typer.echo(f"The run {summary.stop_reason.rstrip('.')}; {resumed}", err=True)
    elif summary.errors:
        retried = f"{command}{' --retry-failed' if resume else ''}"
        typer.echo(f"Run the failed trials again with: {retried}", err=True)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def describe_tracebacks(summary: RunSummary) -> str:
    """Say where the tracebacks of failed trials are; empty if there are none."""
    store = summary.store
    logged = [key for key in summary.errors if store.log_path(key).is_file()]
    if not logged:
        return ""
    text = f"Traceback: {store.log_path(logged[0])}."
    if len(logged) > 1:
        text = f"Tracebacks: {store.folder / 'KEY.log'} for each KEY above."
    if any("objective" in summary.results[key].spec.code for key in logged):
        text += " `obdbench validate` checks an objective of your own and names the line."
    return text


def compare(
    context: typer.Context,
    objectives: Annotated[
        list[str],
        typer.Argument(
            help="Two or more rows; the first is compared with the others. A row with parameters "
            "is named as in tables: 'random (labels=teacher)'; settings of the distillation and "
            "the preset may be parameters: 'pbc (solver=label-solving)', 'pbc (preset=exact)'. "
            "Baselines that use the whole dataset are read from OUT and are not run."
        ),
    ],
    dataset: Datasets = None,
    task: TaskName = None,
    suite: Annotated[
        str,
        typer.Option(
            "--suite",
            help="Suite whose settings and datasets are used; new results go to OUT/compare-SUITE.",
        ),
    ] = "quick",
    protocol: Protocols = None,
    seeds: Seeds = None,
    preset: PresetName = None,
    set_: Sets = None,
    teacher: Teachers = None,
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
    """Compare rows, with intervals; trials without a successful result are run first.

    A trial contains all of its seeds: with other seeds, it is run again.
    """
    from obdbench.execution import run as runner
    from obdbench.reporting import compare as report

    config = ExecutionConfig(
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
        plugins=load_plugins(plugin or ()),
        command=command_words(context),
    )
    rows = report.resolve_row_names(objectives)
    to_run = [row for row in rows if not report.is_baseline(row)]
    grid = load_suite(suite).select(
        datasets=add_task(dataset, task),
        protocols=protocol or (),
        seeds=parse_seed_option(seeds),
        preset=preset,
        teachers=teacher or (),
    )
    store = {"name": f"compare-{grid.name}"}  # a page ranks what its folder contains
    settings = parse_assignments(set_)
    parts = [part.model_copy(update=store) for part in group_by_settings(grid, to_run, settings)]
    planned = [runner.plan_missing(part, config) for part in parts]
    announce_missing([missing for _, missing in planned], sum(len(good) for good, _ in planned))
    results: list[Result] = []
    for good, missing in planned:
        results += good
        if not missing.specs:
            continue
        summary = runner.execute(missing)
        results += [result for result in summary.results.values() if result.status == "ok"]
        if summary.stop_reason or summary.exit_code:
            finish(summary, command_line(context), resume=False)
    compared = report.add_baselines(results, rows, out, grid.datasets)
    print_comparison(report.compare_as_text(compared, rows, latex=latex))


def announce_missing(plans: Sequence[Plan], done: int) -> None:
    """Say how many trials a comparison runs; an error if they would be stored beside a leaderboard.

    The folder of published results contains exactly what the pages beside it show.
    """
    missing = {spec.key for plan in plans for spec in plan.specs}
    if not missing:
        return
    store = plans[0].store
    count = f"{len(missing)} of {len(missing) + done} trials"
    if is_published(store.root):
        raise InvalidSettingError(
            f"{count} have no result in {store.root}, a folder of published results. "
            "compare does not write to this folder.",
            "Restrict the comparison with --seeds, or choose another folder: --out results.",
        )
    typer.echo(
        strip_control_characters(f"{count} have no result; they run now, into {store.folder}."),
        err=True,
    )


def group_by_settings(grid: Suite, rows: Sequence[str], settings: Mapping[str, Any]) -> list[Suite]:
    """Return a suite for the rows without settings, and one for each other row.

    ``settings`` take precedence over the suite and every preset, and a row's own settings over
    them.
    """
    separated = [split_row_settings(row) for row in rows]
    plain = [objective for objective, own in separated if not own]
    parts = [grid.select(objectives=plain, settings={**settings})] if plain else []
    for objective, own in separated:
        if own:
            preset = own.pop("preset", None)
            own = {**settings, **own}
            parts.append(grid.select(objectives=[objective], settings=own, preset=preset))
    return parts


def print_comparison(text: str) -> None:
    """Print a comparison without control characters other than line feeds."""
    typer.echo("\n".join(map(strip_control_characters, text.split("\n"))))


def tune(
    objective: Annotated[str, typer.Argument(help="The objective to tune.")],
    dataset: Datasets = None,
    task: TaskName = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            help="What to search: outer_lr=0.001:0.1 (log), beta=0.01,0.1; may be repeated.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Number of candidates.")] = 16,
    criterion: Annotated[
        str, typer.Option("--criterion", help="offline (held-out states) or returns.")
    ] = "offline",
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the new preset; by default OBJECTIVE-tuned."),
    ] = None,
    seeds: Seeds = "0",
    preset: PresetName = "fast",
    set_: Sets = None,
    teacher: Teachers = None,
    plugin: Plugins = None,
    address: Address = None,
    workers: Workers = None,
    threads: Threads = 1,
    memory: Memory = 2.0,
    device: Device = "cpu",
    search_seed: Annotated[int, typer.Option("--search-seed", help="Seed of the search.")] = 0,
) -> None:
    """Search settings with Ray Tune's ASHA, and save the best as a preset."""
    from obdbench.tuning import api as tuning
    from obdbench.tuning.search_space import SearchConfig, parse_ranges

    plugins = load_plugins(plugin or ())
    datasets = tuple(add_task(dataset, task) or tuning.DEFAULT_DATASETS)
    search = SearchConfig(
        objective=objective,
        datasets=datasets,
        teachers=parse_teachers(teacher or (), datasets),
        ranges=parse_ranges(param or ()),
        trials=trials,
        criterion=criterion,
        seeds=parse_seed_option(seeds),
        preset=load_preset(preset or "fast"),
        settings=parse_assignments(set_),
        search_seed=search_seed,
    )
    outcome = tuning.tune_settings(
        search,
        name=name or f"{objective}-tuned",
        config=ExecutionConfig(
            executor="ray",
            address=address,
            workers=workers,
            threads=threads,
            memory=memory,
            device=device,
            plugins=plugins,
        ),
    )
    typer.echo(outcome.format_summary())
