"""Files from elsewhere: fetched once, checked, kept.

A file is looked for in the cache (``OBDBENCH_CACHE``), in a mirror folder laid out ``host/path``
(``OBDBENCH_MIRROR``) and at last at its address, unless ``OBDBENCH_OFFLINE`` is set. Whatever
arrives is bounded in size and compared with its SHA-256; it takes its final name only after that,
in one step, under a lock that a second process waits for.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

from platformdirs import user_cache_dir
from tqdm import tqdm

from obdbench.errors import FetchError, InvalidSettingError
from obdbench.io import lock, write_atomically

CHUNK = 1 << 20
TIMEOUT = 30.0
ATTEMPTS = 5
FIRST_PAUSE = 0.5
MAX_DIGITS = 18  # of a length; no file has more
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
    """SHA-256 of a file, read in pieces."""
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
    """The local path of what lies at ``url``, downloaded if need be.

    ``name`` renames the file in the cache. With ``trust_first`` and no ``sha256``, the checksum of
    the first download is written into ``fetched.json`` in the cache, and later ones must match it.
    """
    parts = urlsplit(url)
    if name and Path(name).name != name:
        raise InvalidSettingError(f"{name!r} is no plain file name.", "Leave out the folders.")
    if parts.scheme == "file":
        return _checked(Path(url2pathname(parts.path)), sha256, max_bytes, url)
    relative = _relative(url)
    mirror = os.environ.get("OBDBENCH_MIRROR")
    target = cache_path(url, name)
    with lock(target):
        expected = sha256 or (_ledger().get(url) if trust_first else None)
        if target.is_file():
            if expected is None or sha256_of(target) == expected:
                return target
            if is_offline():
                return _checked(target, expected, max_bytes, url)
            target.unlink()
        if mirror and (Path(mirror).expanduser() / relative).is_file():
            found = Path(mirror).expanduser() / relative
            return _checked(found, expected, max_bytes, f"the mirror's copy of {url}")
        if is_offline():
            raise FetchError(
                f"{url} is not in the cache, and OBDBENCH_OFFLINE is set.",
                "Unset it, or point OBDBENCH_MIRROR at a folder laid out host/path.",
            )
        _Download(url, target, max_bytes, expected, progress).run()
        if trust_first and expected is None:
            _record(url, sha256_of(target))
    return target


def cache_path(url: str, name: str | None = None) -> Path:
    """Where in the cache a download of ``url`` is kept, whether or not it is there."""
    relative = _relative(url)
    return cache_root() / "fetched" / (relative.with_name(name) if name else relative)


def _relative(url: str) -> Path:
    """``host/path`` of an address, with nothing in it that could leave the folder."""
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise InvalidSettingError(
            f"{url!r} is no address to fetch from.", "Use an https, http or file address."
        )
    parts = [part for part in unquote(address.path).replace("\\", "/").split("/") if part]
    if not parts or any(part in (".", "..") or "\0" in part for part in parts):
        raise InvalidSettingError(f"{url!r} names no file.", "Give the address of one file.")
    if address.query:
        parts[-1] += "." + hashlib.sha256(address.query.encode()).hexdigest()[:12]
    return Path(address.hostname, *parts)


def _checked(path: Path, sha256: str | None, max_bytes: int, what: str) -> Path:
    if not path.is_file():
        raise FetchError(f"{what} is no file.", "Check the address.")
    if path.stat().st_size > max_bytes:
        raise FetchError(
            f"{what} is larger than the {max_bytes:,} bytes allowed.",
            "Check that it is the file meant.",
        )
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise _wrong_sum(what, found, sha256)
    return path


def _wrong_sum(what: str, found: str, expected: str) -> FetchError:
    return FetchError(
        f"{what} has SHA-256 {found}; expected {expected}.",
        "The file was changed or damaged. If the expected checksum is that of an earlier "
        "download and the change is known to be right, remove its line from fetched.json in the "
        "cache.",
    )


def _ledger() -> dict[str, str]:
    path = cache_root() / "fetched.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise FetchError(
            f"The checksum file {path} cannot be read: {error}.", "Mend or remove it."
        ) from error
    if not isinstance(content, dict):
        raise FetchError(f"The checksum file {path} is no JSON object.", "Mend or remove it.")
    return {str(key): str(value) for key, value in content.items()}


def _record(url: str, sha256: str) -> None:
    path = cache_root() / "fetched.json"
    with lock(path):
        content = json.dumps({**_ledger(), url: sha256}, indent=1, sort_keys=True)
        write_atomically(path, content + "\n")


def _plain(text: str) -> str:
    """A stranger's words on one short line."""
    return " ".join(text.split())[:200]


class _SafeRedirects(HTTPRedirectHandler):
    """Follow redirects to http and https alone, and never from https down to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme == "https" or (scheme == "http" and req.type == "http"):
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        return None


class _BrokenOffError(Exception):
    """The connection failed in a way that another attempt may mend."""


@dataclass
class _Download:
    """One download into ``target`` by way of ``target.part``, which survives a broken line."""

    url: str
    target: Path
    max_bytes: int
    sha256: str | None
    progress: bool

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def tag(self) -> Path:
        """Holds the validator (ETag or date) of the file that ``part`` is the beginning of."""
        return self.target.with_name(self.target.name + ".part.tag")

    def run(self) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self.attempt()
                break
            except _BrokenOffError as error:
                if attempt == ATTEMPTS - 1:
                    raise FetchError(
                        f"{self.url} could not be fetched: {error}.",
                        "Try again later; what has arrived is kept and continued from. Where there "
                        "is no network, point OBDBENCH_MIRROR at a folder laid out host/path.",
                    ) from error
                time.sleep(FIRST_PAUSE * 2**attempt)
        found = sha256_of(self.part)
        if self.sha256 is not None and found != self.sha256:
            self.discard()
            raise _wrong_sum(self.url, found, self.sha256)
        os.replace(self.part, self.target)
        self.discard()

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    def attempt(self) -> None:
        have = self.part.stat().st_size if self.part.exists() and self.tag.exists() else 0
        headers = {"User-Agent": "obdbench", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.tag.read_text()}
        try:
            with build_opener(_SafeRedirects).open(
                Request(self.url, headers=headers), timeout=TIMEOUT
            ) as answer:
                self.receive(answer, have)
        except HTTPError as error:
            if error.code == 416:
                self.discard()
                raise _BrokenOffError("its kept beginning no longer fits") from error
            if error.code in TRANSIENT:
                raise _BrokenOffError(f"the server answers {error.code}") from error
            said = f"the server answers {error.code}"
            if 300 <= error.code < 400:
                said = f"it redirects to {_plain(error.headers.get('Location', 'nowhere'))}"
            raise FetchError(
                f"{self.url} cannot be fetched: {said}.",
                "Check the address, or fetch by hand into the mirror folder.",
            ) from error
        except (URLError, HTTPException, OSError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
            raise _BrokenOffError(_plain(str(reason)) or type(error).__name__) from error

    def receive(self, answer: Any, have: int) -> None:
        headers = answer.headers
        if "html" in headers.get_content_type():
            raise FetchError(
                f"{self.url} brought a web page instead of a file.",
                "A login or error page may stand before it; fetch by hand into the mirror folder.",
            )
        if answer.status != 206 or not headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        ):
            if answer.status == 206:
                self.discard()
                raise _BrokenOffError("the server continues at the wrong place")
            have = 0
        total = have + self.length(said) if (said := headers.get("Content-Length")) else None
        if total is not None and total > self.max_bytes:
            self.refuse_size()
        if total is None and self.sha256 is None and not answer.chunked:
            raise FetchError(
                f"{self.url} cannot be trusted: its server states no length, so that a part of the "
                "file would pass for all of it, and no SHA-256 is known.",
                "Try again later, or fetch by hand into the mirror folder.",
            )
        validator = headers.get("ETag") or headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            self.tag.write_text(validator)
        else:
            self.tag.unlink(missing_ok=True)
        with self.part.open("ab" if have else "wb") as file, self.bar(have, total) as bar:
            while block := answer.read(CHUNK):
                have += len(block)
                if have > self.max_bytes:
                    self.refuse_size()
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
        if total is not None and have != total:
            raise _BrokenOffError(f"the connection ended after {have:,} of {total:,} bytes")

    def length(self, said: str) -> int:
        """What a server states, if that is a number that could be a file's."""
        if not (said.isascii() and said.isdigit() and len(said) <= MAX_DIGITS):
            raise FetchError(
                f"{self.url} cannot be fetched: its server states a length of {_plain(said)!r}.",
                "Try again later, or fetch by hand into the mirror folder.",
            )
        return int(said)

    def refuse_size(self) -> None:
        self.discard()
        raise FetchError(
            f"{self.url} is larger than the {self.max_bytes:,} bytes allowed.",
            "Check that it is the file meant.",
        )

    def bar(self, have: int, total: int | None) -> Any:
        return tqdm(
            desc=self.target.name,
            initial=have,
            total=total,
            unit="B",
            unit_scale=True,
            disable=not (self.progress and sys.stderr.isatty()),
        )
