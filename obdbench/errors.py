"""Errors that a user can act on; each states its cause and its remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class ObdError(Exception):
    """An error that the user can fix; the command line prints it as one line and exits with 2."""

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause = " ".join(cause.split())  # quoted messages may contain line breaks
        self.remedy = " ".join(remedy.split())
        super().__init__(" ".join(part for part in (self.cause, self.remedy) if part))


class UnknownNameError(ObdError):
    """A name that is not registered."""


class DuplicateNameError(ObdError):
    """A name that two origins register."""


class InvalidSettingError(ObdError):
    """A setting out of bounds, or settings that contradict each other."""


class InvalidDataError(ObdError):
    """A file or array with invalid content."""


class FetchError(ObdError):
    """A download that failed or whose content is not the expected one."""


class MissingExtraError(ObdError):
    """An optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} requires an optional package.",
            f"Install it with: pip install 'obdbench[{extra}]'",
        )


def first_line(message: object) -> str:
    """The first line of an error or a text, with at most 200 characters."""
    return str(message).strip().partition("\n")[0][:200]


def shorten(text: object, limit: int = 240) -> str:
    """A text on one line with at most ``limit`` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def count_noun(count: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def strip_control_characters(text: str) -> str:
    """Replace control characters, so that untrusted text cannot control the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> UnknownNameError:
    """Make the error for an unknown name; it suggests similar known names.

    Without any, it lists all known names and ends with ``hint``.
    """
    names = sorted(known)
    similar = get_close_matches(name, names, n=3, cutoff=0.5)
    known_names = f"Known: {', '.join(names)}. {hint}"
    remedy = f"Did you mean {' or '.join(similar)}?" if similar else known_names
    return UnknownNameError(f"There is no {kind} named {name!r}.", remedy)


def run_script(main: Callable[[], object]) -> int:
    """Run the main function of a script; an :class:`ObdError` prints one line and returns 2."""
    try:
        code = main()
    except ObdError as error:
        sys.stderr.write(f"{strip_control_characters(str(error))}\n")
        return 2
    return code if isinstance(code, int) else 0


def format_validation_error(error: ValidationError) -> str:
    """Return the first error that pydantic reports, in one line."""
    first = error.errors()[0]
    location = ".".join(str(part) for part in first["loc"])
    if not location:
        return f"{first['msg']}."
    value = repr(first["input"])
    value = value if len(value) <= 80 else f"{value[:77]}..."
    return f"{location}: {first['msg']}, got {value}."


@contextmanager
def unreadable(what: str, remedy: str, kind: type[ObdError] = InvalidDataError) -> Iterator[None]:
    """Raise any error in the block as one line of type ``kind``, which begins with ``what``.

    Damaged or hostile bytes can raise almost any exception. An :class:`ObdError` is not changed.
    """
    try:
        yield
    except ObdError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}".rstrip(".: ")
        raise kind(f"{what}: {reason}.", remedy) from error


@contextmanager
def translate_validation_error(remedy: str, prefix: str = "") -> Iterator[None]:
    """Raise what pydantic finds wrong in the block as an :class:`InvalidSettingError`."""
    from pydantic import ValidationError  # takes long to import

    try:
        yield
    except ValidationError as error:
        raise InvalidSettingError(f"{prefix}{format_validation_error(error)}", remedy) from error
