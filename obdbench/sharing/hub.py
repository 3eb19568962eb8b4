"""Synsets and results on the Hugging Face Hub, or on a server with its interface.

A repository (of type ``dataset``) contains a README, the files, and ``obdbench.json``, which lists
their sizes and SHA-256 checksums (:class:`HubIndex`). A download is bounded, verified against this
list, read with the same restricted loaders as local files, and only then moved to its place.
``HF_ENDPOINT`` is the address of the server, and ``HF_TOKEN`` or ``hf auth login`` identify the
user.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obdbench.datasets.download import is_offline, sha256_of
from obdbench.distillation.synset import Synset
from obdbench.errors import (
    FetchError,
    InvalidDataError,
    InvalidSettingError,
    MissingExtraError,
    ObdError,
    shorten,
)
from obdbench.io import write_atomically
from obdbench.reporting.grids.suite_results import is_suite_folder, read_suite_results
from obdbench.sharing.hub_card import describe_results, describe_synset

INDEX = "obdbench.json"
README = "README.md"
REPOSITORY_TYPE = "dataset"
MAX_FILES = 10_000
MAX_INDEX_BYTES = 4 * 1024 * 1024
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_PATH = re.compile(rf"(?:{_NAME}/)?{_NAME}\.(?:json|safetensors)")


class FileIdentity(BaseModel):
    """Size and checksum of a file."""

    model_config = ConfigDict(extra="forbid", strict=True)
    bytes: int = Field(ge=0, le=MAX_FILE_BYTES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class HubIndex(BaseModel):
    """Content of ``obdbench.json``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    schema_version: Literal[1] = 1
    kind: Literal["synset", "results"]
    files: dict[str, FileIdentity] = Field(min_length=1, max_length=MAX_FILES)

    def check(self, repository: str) -> None:
        """Raise an error for unsafe paths and for too much data."""
        unsafe = [path for path in self.files if not _PATH.fullmatch(path) or ".." in path]
        if unsafe or INDEX in self.files:
            raise InvalidDataError(
                f"{repository} lists the file {(unsafe or [INDEX])[0]!r:.100}.",
                "Files are NAME.json, NAME.safetensors or SUITE/NAME.json.",
            )
        total = sum(file.bytes for file in self.files.values())
        if total > MAX_TOTAL_BYTES:
            raise InvalidDataError(
                f"{repository} lists {total:,} bytes; at most {MAX_TOTAL_BYTES:,} are read.",
                "Check the repository.",
            )


def push_to_hub(
    source: Path | str, repository: str, *, private: bool = False, message: str = ""
) -> str:
    """Upload a synset (``.safetensors``) or the results of a suite; returns the commit's address.

    The repository is created if it does not exist. Its README is generated.
    """
    check_repository(repository)
    source = Path(source)
    if source.suffix == ".safetensors":
        synset = Synset.load(source)
        card = source.with_suffix(".json")
        paths = [source, *([card] if card.is_file() else [])]
        contents = {path.name: path.read_bytes() for path in paths}
        readme = describe_synset(synset, source.name, repository)
        index = HubIndex(kind="synset", files=_identify(contents))
    elif source.is_dir() and is_suite_folder(source):
        readme = describe_results(source, repository)
        suite = source.resolve().name
        contents = {f"{suite}/{p.name}": p.read_bytes() for p in sorted(source.glob("[!.]*.json"))}
        index = HubIndex(kind="results", files=_identify(contents))
    else:
        raise InvalidDataError(
            f"{source} is neither a synset nor a folder with the results of a suite.",
            "Give NAME.safetensors or RESULTS/SUITE.",
        )
    index.check(str(source))
    uploads = {
        README: readme.encode(),
        **contents,
        INDEX: (index.model_dump_json(indent=1) + "\n").encode(),
    }
    return _upload(repository, uploads, private, message or f"Upload {source.name}")


def pull_from_hub(
    repository: str, folder: Path | str, *, revision: str | None = None
) -> tuple[list[Path], str]:
    """Download and verify a synset or results; returns the files and the commit.

    A file in ``folder`` that differs from the one with the same name is not replaced: it is an
    error, and nothing is written.
    """
    check_repository(repository)
    folder = Path(folder)
    with tempfile.TemporaryDirectory(prefix="obdbench-hub-") as temporary:
        downloads = Path(temporary)
        api = _client()
        with _hub_errors(f"{repository} cannot be read"):
            info = api.dataset_info(repository, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size for file in info.siblings or []}
        commit = str(info.sha)

        def download(name: str, max_bytes: int) -> Path:
            size = sizes.get(name)
            if size is None or size > max_bytes:
                raise InvalidDataError(
                    f"{repository} contains no {name}."
                    if size is None
                    else f"{name} of {repository} is too large.",
                    "Check the repository; `obdbench hub push` creates its files.",
                )
            with _hub_errors(f"{name} of {repository} cannot be downloaded"):
                path = api.hf_hub_download(
                    repository,
                    name,
                    repo_type=REPOSITORY_TYPE,
                    revision=commit,
                    local_dir=downloads,
                )
            return Path(path)

        index = _read_index(download(INDEX, MAX_INDEX_BYTES), repository)
        files = {}
        for name, expected in index.files.items():
            files[name] = download(name, expected.bytes)
            if sha256_of(files[name]) != expected.sha256:
                raise FetchError(
                    f"{name} of {repository} differs from its checksum.", "Pull it again."
                )
        _check_content(index, files, downloads)
        return _move(files, folder), commit


def check_repository(repository: str) -> None:
    """Require OWNER/NAME."""
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidSettingError(
            f"{repository!r:.100} is not the name of a repository.", "Write OWNER/NAME."
        )


def _identify(contents: Mapping[str, bytes]) -> dict[str, FileIdentity]:
    too_large = [name for name, content in contents.items() if len(content) > MAX_FILE_BYTES]
    if too_large or len(contents) > MAX_FILES:
        raise InvalidDataError(
            f"{too_large[0] if too_large else f'A folder of {len(contents):,} files'} is too large "
            "to upload.",
            f"At most {MAX_FILES:,} files of at most {MAX_FILE_BYTES:,} bytes are uploaded.",
        )
    return {
        name: FileIdentity(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    }


def _read_index(path: Path, repository: str) -> HubIndex:
    try:
        index = HubIndex.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InvalidDataError(
            f"{INDEX} of {repository} is invalid: {error.errors()[0]['msg']}.",
            "`obdbench hub push` writes it.",
        ) from error
    index.check(repository)
    return index


def _check_content(index: HubIndex, files: Mapping[str, Path], folder: Path) -> None:
    """Read the files with the loaders of local files."""
    if index.kind == "results":
        suites = {name.partition("/")[0] for name in files if "/" in name}
        if len(suites) != 1 or any("/" not in name for name in files):
            raise InvalidDataError(
                "The repository contains results outside the folder of one suite.",
                "`obdbench hub push` creates such a folder.",
            )
        read_suite_results(folder / suites.pop(), strict=True)
        return
    synsets = [name for name in files if name.endswith(".safetensors")]
    cards = [f"{name.removesuffix('.safetensors')}.json" for name in synsets]
    if len(synsets) != 1 or set(files) - {*synsets, *cards}:
        raise InvalidDataError(
            "The repository contains other files than one synset and its card.",
            "`obdbench hub push` creates these files.",
        )
    Synset.load(files[synsets[0]])


def _move(files: Mapping[str, Path], folder: Path) -> list[Path]:
    targets = {folder / name: path.read_bytes() for name, path in files.items()}
    try:
        for target, content in targets.items():
            if target.exists() and target.read_bytes() != content:
                raise InvalidSettingError(
                    f"{target} exists and differs.", "Give another folder with --to."
                )
        for target, content in targets.items():
            write_atomically(target, content)
    except OSError as error:
        raise ObdError(
            f"{folder} cannot be written: {error}.", "Choose a writable folder with free space."
        ) from error
    return list(targets)


def _upload(repository: str, uploads: Mapping[str, bytes], private: bool, message: str) -> str:
    api = _client()
    from huggingface_hub import CommitOperationAdd

    with _hub_errors(f"{repository} cannot be written"):
        api.create_repo(repository, repo_type=REPOSITORY_TYPE, private=private, exist_ok=True)
        commit = api.create_commit(
            repository,
            [CommitOperationAdd(name, content) for name, content in uploads.items()],
            commit_message=message,
            repo_type=REPOSITORY_TYPE,
        )
    return str(commit.commit_url)


def _client() -> Any:
    """The client of the Hub, or of the server at ``HF_ENDPOINT``."""
    if is_offline():
        raise FetchError("OBDBENCH_OFFLINE forbids network access.", "Unset it.")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtraError("Sharing on the Hub", "hub") from error
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    return HfApi(endpoint=endpoint, library_name="obdbench")


@contextmanager
def _hub_errors(failure: str) -> Iterator[None]:
    """Turn errors of the client, which can be of almost any type, into one line."""
    try:
        yield
    except ObdError:
        raise
    except Exception as error:
        raise FetchError(
            f"{failure}: {type(error).__name__}: {shorten(error, 300).rstrip('.')}.",
            "Check the name, the network, and HF_TOKEN or `hf auth login`.",
        ) from error
