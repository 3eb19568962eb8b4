"""Checks that datasets still have the content that results were made from.

A file (``file:PATH``) and a loader in user code can give other transitions under the same name.
All other datasets are verified by a checksum when they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError
from obdbench.experiments.fingerprint import hash_source
from obdbench.experiments.spec import TrialSpec
from obdbench.registry import datasets
from obdbench.results.record import DataIdentity, Result
from obdbench.results.store import ResultStore
from obdbench.results.synset_store import SynsetStore


def can_change(dataset_id: str) -> bool:
    """Return whether the content of a dataset is under the user's control."""
    if dataset_id in datasets:
        return hash_source(datasets, dataset_id) is not None
    return DatasetId(dataset_id).source == "file"


def check_unchanged(used: Iterable[tuple[TrialSpec, DataIdentity | None]]) -> None:
    """Raise an error if a dataset has changed since a trial used it."""
    checksums: dict[str, str] = {}
    for spec, identity in used:
        if identity is None or not can_change(spec.dataset):
            continue
        if spec.dataset not in checksums:
            checksums[spec.dataset] = load_dataset(spec.dataset).checksum
        if identity.checksum != checksums[spec.dataset]:
            raise InvalidDataError(
                f"{spec.dataset} has changed since existing results were made from it.",
                "Give changed data another name, use another --out, or run the trials again with "
                "obdbench run … --fresh.",
            )


def list_used_data(
    store: ResultStore, specs: Iterable[TrialSpec], results: Mapping[str, Result]
) -> Iterator[tuple[TrialSpec, DataIdentity | None]]:
    """Yield the datasets behind results, and behind synsets without a result, that can change."""
    for spec in specs:
        if can_change(spec.dataset):
            result, record = results.get(spec.key), SynsetStore(store, spec).read_record()
            yield spec, result.dataset if result else None
            yield spec, record.dataset if record else None
