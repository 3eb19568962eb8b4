"""The command line. Commands import what they need, so that help and listings are quick.

Exit codes: 0 done, 1 some trial failed or a check did not hold, 2 the call was wrong, 130
interrupted.
"""

from __future__ import annotations

import io
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from obdbench.cli import run as cli_bench
from obdbench.cli.data import app as data_app
from obdbench.cli.options import Plugins
from obdbench.cli.teach import teach
from obdbench.errors import InvalidSettingError, ObdError, strip_control_characters, unknown_name
from obdbench.version import __version__

WRONG_CALL, INTERRUPTED = 2, 130
_SHOW = warnings.showwarning
LISTS = ("objectives", "datasets", "protocols", "architectures", "suites", "presets", "settings")


class _Commands(typer.core.TyperGroup):
    """The commands; typer itself would end an interrupted one without a word."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _interrupts_said():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _interrupts_said():
            return super().invoke(ctx)


@contextmanager
def _interrupts_said() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _complain("Interrupted.")
        raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="obdbench",
    cls=_Commands,
    help="Benchmark suite for offline behavior distillation.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli_bench.mount(app)
app.command()(teach)
app.add_typer(data_app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"obdbench {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors; works anywhere in a call.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help=", ".join(LISTS))],
    plugin: Plugins = None,
) -> None:
    """List what can be named."""
    if what not in LISTS:
        raise unknown_name("list", what, LISTS)
    if plugin:
        from obdbench.plugins import Plugin, load_plugins

        load_plugins([Plugin.read(reference) for reference in plugin])
    rows = list(_rows(what))
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        typer.echo(f"{name:<{width}}  {summary}".rstrip())


def _rows(what: str) -> Any:
    if what == "suites":
        from obdbench.experiments.suite import list_suites, load_suite

        for name in list_suites():
            yield name, load_suite(name).summary
    elif what == "presets":
        from obdbench.experiments import presets

        for name in presets.list_presets():
            yield name, presets.load_preset(name).summary
    elif what == "settings":
        from obdbench.distillation.settings import describe_settings

        yield from describe_settings()
    else:
        from obdbench import registry

        for entry in getattr(registry, what):
            aliases = f" (also {', '.join(entry.aliases)})" if entry.aliases else ""
            yield entry.name, f"{entry.summary or f'from {entry.origin}'}{aliases}"


@app.command()
def leaderboard(
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of suites' results; results/ below --to by default."),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder of leaderboards.")] = Path(
        "leaderboards"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Only compare the tables with the results.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Also write one static page.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Make unreadable results an error.")
    ] = False,
    publish: Annotated[
        list[Path] | None,
        typer.Option("--publish", help="First copy a run's results, RESULTS/SUITE, compactly."),
    ] = None,
) -> None:
    """Write the leaderboards that follow from results, or check those that are there."""
    from obdbench.reporting import pages as report
    from obdbench.reporting.publish import publish as copy

    if check and (publish or html):
        raise InvalidSettingError(
            "--check writes nothing, while --publish and --html do.", "Give them in two calls."
        )
    for folder in publish or []:
        typer.echo(f"Published {folder} to {copy(folder, to, strict=strict)}.")
    out = out or to / "results"
    also = [page for page in (Path("README.md"),) if page.is_file() and out == to / "results"]
    if check:
        problems = report.check_pages(out, to, also=also)
        for problem in problems:
            typer.echo(strip_control_characters(problem), err=True)
        if problems:
            raise typer.Exit(1)
        typer.echo(f"{to} follows from {out}.")
        return
    report.write_pages(out, to, strict=strict, also=also)
    if html:
        from obdbench.reporting import html as page

        typer.echo(page.write(out, to))
    typer.echo(f"Wrote {to}.")


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A result (.json) or a synset (.safetensors).")],
) -> None:
    """Show what a result or a synset holds."""
    from obdbench.reporting.show import show as render

    typer.echo(render(path))


@app.command()
def validate(
    plugin: Annotated[
        str,
        typer.Argument(help="file.py, module or module:Class; or a name that is registered."),
    ],
    param: Annotated[
        list[str] | None, typer.Option("--param", help="Objective parameter, as key=value.")
    ] = None,
) -> None:
    """Check in seconds, on toy data, that an objective of your own keeps its contract."""
    from obdbench.cli.options import parse_assignments
    from obdbench.validation.objective_contract import validate_objectives

    sound = True
    for report in validate_objectives(plugin, parse_assignments(param)):
        typer.echo(report.text())
        sound = sound and report.passed
    if not sound:
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: every foreseen error is one line, and the exit code says which kind."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.showwarning = _warn
    if isinstance(sys.stdout, io.TextIOWrapper):  # a narrow terminal garbles a name, no more
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, prog_name="obdbench", standalone_mode=False)
    except ObdError as error:
        if debug:
            raise
        _complain(str(error))
        code = WRONG_CALL
    except (KeyboardInterrupt, typer.Abort):
        _complain("Interrupted.")
        code = INTERRUPTED
    except BrokenPipeError:
        code = 1
    except OSError as error:
        if debug:
            raise
        where = f" {error.filename!r}" if error.filename is not None else ""
        _complain(f"Cannot use{where}: {error.strerror or error}. Check the path and its rights.")
        code = WRONG_CALL
    except Exception as error:
        if debug:
            raise
        message = getattr(error, "format_message", None)  # typer's own usage errors
        if type(error).__name__ == "NoArgsIsHelpError" and message is not None:
            sys.stderr.write(f"{message()}\n")  # the help, as it is
        elif message is not None:
            _complain(f"{message()} `obdbench --help` lists commands and options.")
        else:
            _complain(f"Unexpected {type(error).__name__}: {error}. Add --debug for the traceback.")
        code = WRONG_CALL
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    line = f"obdbench: {' '.join(message.split())}"
    sys.stderr.write(
        strip_control_characters(line.encode("utf-8", "backslashreplace").decode()) + "\n"
    )


def _warn(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Warnings of this project in one line, others as Python shows them."""
    if category.__module__.partition(".")[0] == "obdbench":
        _complain(f"warning: {message}")
    else:
        _SHOW(message, category, *where, **more)


def _interrupt(signum: int, frame: Any) -> NoReturn:
    """Let a scheduler's SIGTERM end a run as Ctrl-C does."""
    raise KeyboardInterrupt
