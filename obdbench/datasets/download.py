"""Downloads that are verified and cached.

A file is read from the cache (``OBDBENCH_CACHE``), from a mirror folder with the layout
``host/path`` (``OBDBENCH_MIRROR``) or, unless ``OBDBENCH_OFFLINE`` is set, from its address. A
download is bounded in size and compared with its SHA-256 before it is renamed to its final name,
under a lock for which other processes wait.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

from platformdirs import user_cache_dir
from tqdm import tqdm

from obdbench.errors import FetchError, InvalidSettingError, first_line
from obdbench.io import lock, write_atomically

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds
ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds, doubled after each attempt
MAX_LENGTH_DIGITS = 18  # of a stated length in bytes
LOCAL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}  # another try cannot help
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


def fetch(
    url: str,
    *,
    max_bytes: int,
    sha256: str | None = None,
    name: str | None = None,
    progress: bool = True,
    trust_first: bool = False,
) -> Path:
    """The local path of the file at ``url``, downloaded if necessary.

    ``name`` renames the file in the cache. With ``trust_first`` and no ``sha256``, the checksum of
    the first download is stored in ``fetched.json`` in the cache, and later ones must match it.
    """
    address = _split(url)
    if name and (Path(name).name != name or name == ".."):
        raise InvalidSettingError(f"{name!r} is not a plain file name.", "Leave out the folders.")
    if address.scheme == "file":
        return _verify(Path(url2pathname(address.path)), sha256, max_bytes, url)
    relative = _relative(url)
    mirror = os.environ.get("OBDBENCH_MIRROR")
    target = cache_path(url, name)
    expected = sha256 or (read_checksums().get(url) if trust_first else None)
    if _is_cached(target, expected):  # before the lock, which a read-only cache does not allow
        return target
    with lock(target):
        expected = sha256 or (read_checksums().get(url) if trust_first else None)
        if _is_cached(target, expected):
            return target
        if target.is_file():
            if is_offline():
                return _verify(target, expected, max_bytes, url)
            target.unlink()
        if mirror and (Path(mirror).expanduser() / relative).is_file():
            copy = Path(mirror).expanduser() / relative
            return _verify(copy, expected, max_bytes, f"the mirror's copy of {url}")
        if is_offline():
            raise FetchError(
                f"{url} is not in the cache, and OBDBENCH_OFFLINE is set.",
                "Unset it, or point OBDBENCH_MIRROR at a folder with the layout host/path.",
            )
        _Download(url, target, max_bytes, expected, progress).run()
        if trust_first and expected is None:
            _store_checksum(url, sha256_of(target))
    return target


def cache_path(url: str, name: str | None = None) -> Path:
    """The path in the cache of a download of ``url``, which may not exist."""
    relative = _relative(url)
    return cache_root() / "fetched" / (relative.with_name(name) if name else relative)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InvalidSettingError(
            f"{url!r} is not an address: {first_line(error)}.", "Check the address."
        ) from error


def _relative(url: str) -> Path:
    """``host/path`` of an address, without parts that could leave the folder."""
    address = _split(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise InvalidSettingError(
            f"{url!r} cannot be fetched.", "Use an https, http or file address."
        )
    path = f"{address.hostname}/{unquote(address.path)}".replace("\\", "/")
    parts = [part for part in path.split("/") if part]
    if len(parts) < 2 or any(part in (".", "..") or "\0" in part for part in parts):
        raise InvalidSettingError(f"{url!r} names no file.", "Give the address of one file.")
    if address.query:
        parts[-1] += "." + hashlib.sha256(address.query.encode()).hexdigest()[:12]
    return Path(*parts)


def _is_cached(target: Path, sha256: str | None) -> bool:
    """Whether a file is there; a download gets its final name only after it is verified."""
    return target.is_file() and (sha256 is None or sha256_of(target) == sha256)


def _verify(path: Path, sha256: str | None, max_bytes: int, label: str) -> Path:
    if not path.is_file():
        raise FetchError(f"{label} is not a file.", "Check the address.")
    if path.stat().st_size > max_bytes:
        raise FetchError(
            f"{label} is larger than the {max_bytes:,} bytes allowed.",
            "Check that the address names the expected file.",
        )
    if sha256 is not None and (actual := sha256_of(path)) != sha256:
        raise _checksum_error(label, actual, sha256)
    return path


def _checksum_error(label: str, actual: str, expected: str) -> FetchError:
    return FetchError(
        f"{label} has SHA-256 {actual}; expected {expected}.",
        "The file was changed or damaged. If the expected checksum is that of an earlier "
        "download and the change is known to be right, remove its line from fetched.json in the "
        "cache.",
    )


def read_checksums() -> dict[str, str]:
    """Checksums of first downloads, by address."""
    path = cache_root() / "fetched.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise FetchError(
            f"The checksum file {path} cannot be read: {error}.", "Repair or remove it."
        ) from error
    if not isinstance(content, dict):
        raise FetchError(f"The checksum file {path} is not a JSON object.", "Repair or remove it.")
    return {str(key): str(value) for key, value in content.items()}


def _store_checksum(url: str, sha256: str) -> None:
    path = cache_root() / "fetched.json"
    with lock(path):
        content = json.dumps({**read_checksums(), url: sha256}, indent=1, sort_keys=True)
        write_atomically(path, content + "\n")


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
    max_bytes: int
    sha256: str | None
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
        if self.sha256 is not None and actual != self.sha256:
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
        stated = headers.get("Content-Length")
        total = received + self.parse_length(stated) if stated else None
        if total is not None and total > self.max_bytes:
            self.refuse_size()
        if total is None and self.sha256 is None and not response.chunked:
            raise FetchError(
                f"{self.url} cannot be verified: its server states no length and no SHA-256 is "
                "known, so that a truncated file would not be noticed.",
                "Try again later, or download it manually into the mirror folder.",
            )
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

    def parse_length(self, stated: str) -> int:
        """A stated length, if it is a number and can be the size of a file."""
        if not (stated.isascii() and stated.isdigit() and len(stated) <= MAX_LENGTH_DIGITS):
            raise FetchError(
                f"{self.url} cannot be fetched: its server states a length of "
                f"{first_line(stated)!r}.",
                "Try again later, or download it manually into the mirror folder.",
            )
        return int(stated)

    def refuse_size(self) -> None:
        self.discard()
        raise FetchError(
            f"{self.url} is larger than the {self.max_bytes:,} bytes allowed.",
            "Check that the address names the expected file.",
        )

    def bar(self, received: int, total: int | None) -> Any:
        return tqdm(
            desc=self.target.name,
            initial=received,
            total=total,
            unit="B",
            unit_scale=True,
            disable=not (self.progress and sys.stderr.isatty()),
        )
