"""The command line: its commands, and how errors become messages and exit codes.

Exit codes: 0 success, 1 a trial failed or a check did not pass, 2 invalid call or input,
130 interrupted. Commands import heavy packages when they run, so that help and lists are fast.
"""

from __future__ import annotations

import io
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import typer

from obdbench.cli.data import app as data_app
from obdbench.cli.export import export
from obdbench.cli.hub import app as hub_app
from obdbench.cli.leaderboard import leaderboard, show
from obdbench.cli.options import INTERRUPTED, Plugins, parse_assignments
from obdbench.cli.run import compare, run, tune
from obdbench.cli.teach import teach
from obdbench.distillation.settings import describe_settings
from obdbench.errors import ObdError, strip_control_characters, unknown_name
from obdbench.experiments.presets import list_presets, load_preset
from obdbench.experiments.suite import list_suites, load_suite
from obdbench.plugins import load_plugins
from obdbench.registry import REGISTRIES
from obdbench.version import __version__

INVALID_CALL = 2
LISTS = (*REGISTRIES, "suites", "presets", "settings")
_python_showwarning = warnings.showwarning

app = typer.Typer(
    name="obdbench",
    help="Benchmark suite for offline behavior distillation.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"obdbench {__version__}")
        raise typer.Exit


@app.callback()
def common_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors; accepted by every command.")
    ] = False,
) -> None:
    """Define the options that precede a command."""


for _command in (run, compare, tune, teach):
    app.command()(_command)


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(LISTS)}.")],
    plugin: Plugins = None,
) -> None:
    """List the names of one kind, with a summary of each."""
    if kind not in LISTS:
        raise unknown_name("list", kind, LISTS)
    load_plugins(plugin or ())
    rows = list(_summaries(kind))
    width = max((len(name) for name, _ in rows), default=0)
    for name, summary in rows:
        typer.echo(f"{name:<{width}}  {summary}".rstrip())


def _summaries(kind: str) -> Iterator[tuple[str, str]]:
    if kind == "suites":
        yield from ((name, load_suite(name).summary) for name in list_suites())
    elif kind == "presets":
        yield from ((name, _preset_summary(name)) for name in list_presets())
    elif kind == "settings":
        yield from describe_settings()
    else:
        for entry in REGISTRIES[kind]:
            aliases = f" (also {', '.join(entry.aliases)})" if entry.aliases else ""
            yield entry.name, f"{entry.summary or f'from {entry.origin}'}{aliases}"


def _preset_summary(name: str) -> str:
    """The summary of a preset, or the error in its file."""
    try:
        return load_preset(name).summary
    except ObdError as error:
        return strip_control_characters(str(error))


app.command()(leaderboard)
app.command()(show)
app.command()(export)


@app.command()
def validate(
    plugin: Annotated[
        str,
        typer.Argument(
            help="Python file, module or module:Class, or the name of an objective, selection "
            "or solver."
        ),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            help="Parameter of the objective, or setting for a solver, as key=value; may be "
            "repeated.",
        ),
    ] = None,
) -> None:
    """Check on toy data, in seconds, that extensions fulfil their contract."""
    from obdbench.validation.objective_contract import validate_objectives

    reports = validate_objectives(plugin, parse_assignments(param))
    for report in reports:
        typer.echo(report.text())
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


app.add_typer(data_app, name="data")
app.add_typer(hub_app, name="hub")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line; every expected error is one line and has an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    signal.signal(signal.SIGTERM, _raise_interrupt)
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may exceed the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        words = tuple(arguments)  # the manifest of a run records them
        code = app(args=arguments, obj=words, prog_name="obdbench", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = 1
    except Exception as error:
        if debug and not hasattr(error, "format_message"):
            raise
        _print_exception(error)
        code = INVALID_CALL
    if code == INTERRUPTED:
        print_error("Interrupted.")
    sys.exit(code if isinstance(code, int) else 0)


def _print_exception(error: Exception) -> None:
    """Print the cause of a failed command in one line, or the help that typer raises."""
    usage = getattr(error, "format_message", None)  # errors of typer about the call itself
    if isinstance(error, ObdError):
        print_error(str(error))
    elif isinstance(error, OSError):
        file = f" {error.filename!r}" if error.filename is not None else ""
        print_error(
            f"Cannot access{file}: {error.strerror or error}. Check the path and its permissions."
        )
    elif usage is None:
        print_error(f"Unexpected {type(error).__name__}: {error}. Add --debug for the traceback.")
    elif type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{usage()}\n")
    else:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "obdbench"
        print_error(f"{usage().rstrip('.')}. `{command} --help` lists what can be given.")


def print_error(message: str) -> None:
    """Print a message to standard error as one line without control characters."""
    line = f"obdbench: {' '.join(message.split())}"
    printable = line.encode("utf-8", "backslashreplace").decode()
    sys.stderr.write(f"{strip_control_characters(printable)}\n")


def _show_warning(
    message: Warning | str, category: type[Warning], *location: Any, **options: Any
) -> None:
    """Print warnings of this project in one line, others as Python does."""
    if category.__module__.partition(".")[0] == "obdbench":
        print_error(f"warning: {message}")
    else:
        _python_showwarning(message, category, *location, **options)


def _raise_interrupt(signum: int, frame: Any) -> NoReturn:
    """Handle SIGTERM, which schedulers send, like Ctrl-C."""
    raise KeyboardInterrupt
