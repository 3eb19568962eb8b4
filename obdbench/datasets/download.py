"""Downloads that are verified and cached.

A file is read from the cache (``OBDBENCH_CACHE``), from a mirror folder with the layout
``host/path`` (``OBDBENCH_MIRROR``) or, unless ``OBDBENCH_OFFLINE`` is set, from its address. A
download is bounded in size and compared with its SHA-256 before it is renamed to its final name,
under a lock for which other processes wait.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from platformdirs import user_cache_dir
from tqdm import tqdm

from obdbench.errors import FetchError, first_line
from obdbench.io import lock

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds
ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds, doubled after each attempt
LOCAL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}  # another try cannot help
CHANGED = (
    "The file was changed or damaged: fetch it again, or place the original in the mirror folder."
)
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


def cache_root() -> Path:
    """The folder for everything that can be fetched or built again."""
    chosen = os.environ.get("OBDBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()

    return Path(user_cache_dir("obdbench"))


def is_offline() -> bool:
    """Whether the user has forbidden network access."""
    return os.environ.get("OBDBENCH_OFFLINE", "").lower() not in ("", "0", "false", "no")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, without reading it into memory at once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, *, sha256: str, max_bytes: int, progress: bool = True) -> Path:
    """The local path of the file at ``url``, downloaded if necessary.

    The address comes from a file of the package; what the server or the mirror gives is untrusted.
    """
    target, copy = cache_path(url), _mirror_copy(url)
    if _is_cached(target, sha256):  # before the lock, which a read-only cache does not allow
        return target
    if copy is not None:
        return _verify(copy, sha256, max_bytes, f"the mirror's copy of {url}")
    with lock(target):
        if _is_cached(target, sha256):
            return target
        if is_offline():
            if target.is_file():
                return _verify(target, sha256, max_bytes, f"the cached copy of {url}")
            raise FetchError(
                f"{url} is not in the cache, and OBDBENCH_OFFLINE is set.",
                "Unset it, or point OBDBENCH_MIRROR at a folder with the layout host/path.",
            )
        target.unlink(missing_ok=True)
        _Download(url, target, sha256, max_bytes, progress).run()
    return target


def find_local(url: str, *, sha256: str, max_bytes: int) -> Path | None:
    """The file of ``url`` in the cache or in the mirror if it has the size and the checksum."""
    for path in (cache_path(url), _mirror_copy(url)):
        is_small = path is not None and path.is_file() and path.stat().st_size <= max_bytes
        if path is not None and is_small and sha256_of(path) == sha256:
            return path
    return None


def _mirror_copy(url: str) -> Path | None:
    mirror = os.environ.get("OBDBENCH_MIRROR")
    copy = Path(mirror).expanduser() / _relative(url) if mirror else None
    return copy if copy is not None and copy.is_file() else None


def cache_path(url: str) -> Path:
    """The path in the cache of a download of ``url``, which may not exist."""
    return cache_root() / "fetched" / _relative(url)


def _relative(url: str) -> Path:
    """``host/path`` of an address."""
    address = urlsplit(url)
    return Path(f"{address.hostname}{address.path}")


def _is_cached(target: Path, sha256: str) -> bool:
    return target.is_file() and sha256_of(target) == sha256


def _verify(path: Path, sha256: str, max_bytes: int, label: str) -> Path:
    if path.stat().st_size > max_bytes:
        raise _size_error(label, max_bytes)
    if (actual := sha256_of(path)) != sha256:
        raise _checksum_error(label, actual, sha256)
    return path


def _size_error(label: str, max_bytes: int) -> FetchError:
    return FetchError(f"{label} is larger than the {max_bytes:,} bytes allowed.", CHANGED)


def _checksum_error(label: str, actual: str, expected: str) -> FetchError:
    return FetchError(f"{label} has SHA-256 {actual}; expected {expected}.", CHANGED)


class _SafeRedirects(HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme == "https" or (scheme == "http" and req.type == "http"):
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        return None


class _TransientError(Exception):
    """A failure that may not occur in another attempt."""


@dataclass
class _Download:
    """One download to ``target``, through ``target.part``, which outlasts a failed connection."""

    url: str
    target: Path
    sha256: str
    max_bytes: int
    progress: bool

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def validator_path(self) -> Path:
        """Contains the validator (ETag or date) of the file whose beginning is in ``part``."""
        return self.target.with_name(self.target.name + ".part.tag")

    def run(self) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self.attempt()
                break
            except _TransientError as error:
                if attempt == ATTEMPTS - 1:
                    raise FetchError(
                        f"{self.url} could not be fetched: {error}.",
                        "Try again later; the download continues after the received part. If there "
                        "is no network, point OBDBENCH_MIRROR at a folder with the layout "
                        "host/path.",
                    ) from error
                time.sleep(FIRST_PAUSE * 2**attempt)
        actual = sha256_of(self.part)
        if actual != self.sha256:
            self.discard()
            raise _checksum_error(self.url, actual, self.sha256)
        os.replace(self.part, self.target)
        self.discard()

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.validator_path.unlink(missing_ok=True)

    def attempt(self) -> None:
        received = (
            self.part.stat().st_size if self.part.exists() and self.validator_path.exists() else 0
        )
        headers = {"User-Agent": "obdbench", "Accept-Encoding": "identity"}
        if received:
            headers |= {"Range": f"bytes={received}-", "If-Range": self.validator_path.read_text()}
        try:
            with build_opener(_SafeRedirects).open(
                Request(self.url, headers=headers), timeout=TIMEOUT
            ) as response:
                self.receive(response, received)
        except HTTPError as error:
            if error.code == 416:
                self.discard()
                raise _TransientError("the received part no longer belongs to the file") from error
            if error.code in TRANSIENT:
                raise _TransientError(f"the server answers {error.code}") from error
            reason = f"the server answers {error.code}"
            if 300 <= error.code < 400:
                reason = f"it redirects to {first_line(error.headers.get('Location', 'nowhere'))}"
            raise FetchError(
                f"{self.url} cannot be fetched: {reason}.",
                "Check the address, or download it manually into the mirror folder.",
            ) from error
        except (HTTPException, OSError, ValueError) as error:  # ValueError: a bad redirection
            if isinstance(error, OSError) and error.errno in LOCAL_ERRORS:
                raise FetchError(
                    f"{self.part} cannot be written: {error.strerror}.",
                    "Free space, or choose another cache folder.",
                ) from error
            cause = getattr(error, "reason", None) or error
            raise _TransientError(first_line(cause) or type(error).__name__) from error

    def receive(self, response: Any, received: int) -> None:
        headers = response.headers
        if "html" in headers.get_content_type():
            raise FetchError(
                f"{self.url} returned a web page instead of a file.",
                "It may be a login or error page; download the file manually into the mirror "
                "folder.",
            )
        if response.status != 206 or not headers.get("Content-Range", "").startswith(
            f"bytes {received}-"
        ):
            if response.status == 206:
                self.discard()
                raise _TransientError("the server continues at the wrong position")
            received = 0
        total = None if response.length is None else received + response.length
        if total is not None and total > self.max_bytes:
            self.refuse_size()
        validator = headers.get("ETag") or headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            self.validator_path.write_text(validator)
        else:
            self.validator_path.unlink(missing_ok=True)
        with self.part.open("ab" if received else "wb") as file, self.bar(received, total) as bar:
            while block := response.read(CHUNK):
                received += len(block)
                if received > self.max_bytes:
                    self.refuse_size()
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and received != total:
            raise _TransientError(f"the connection ended after {received:,} of {total:,} bytes")

    def refuse_size(self) -> None:
        self.discard()
        raise _size_error(self.url, self.max_bytes)

    def bar(self, received: int, total: int | None) -> Any:
        return tqdm(
            desc=self.target.name,
            initial=received,
            total=total,
            unit="B",
            unit_scale=True,
            disable=not (self.progress and sys.stderr.isatty()),
        )
