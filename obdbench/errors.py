"""Errors that a user can act on: one sentence of cause, one of remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class ObdError(Exception):
    """Anything the user can mend. The command line prints it as one line and exits with 2."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = " ".join(cause.split())  # what others said in it may have broken lines
        self.remedy = " ".join(remedy.split())
        super().__init__(" ".join(part for part in (self.cause, self.remedy) if part))


class UnknownNameError(ObdError):
    """A name that no registry knows."""


class DuplicateNameError(ObdError):
    """Two origins claim the same name."""


class InvalidSettingError(ObdError):
    """A setting out of its bounds, or settings that contradict each other."""


class InvalidDataError(ObdError):
    """A file or array that does not hold what it should."""


class FetchError(ObdError):
    """A download that failed or brought the wrong bytes."""


class MissingExtraError(ObdError):
    """An optional dependency that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional package.",
            f"Install it with: pip install 'obdbench[{extra}]'",
        )


def strip_control_characters(text: str) -> str:
    """One line without control characters: what others wrote must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Answer a wrong name with the nearest right ones."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    remedy = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names)}."
    return UnknownNameError(f"There is no {kind} named {name!r}.", remedy)


def run_script(main: Callable[[], object]) -> int:
    """Run a script's command line; what its user can mend becomes one line and the exit code 2."""
    try:
        code = main()
    except ObdError as error:
        sys.stderr.write(f"{strip_control_characters(str(error))}\n")
        return 2
    return code if isinstance(code, int) else 0
