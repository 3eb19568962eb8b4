"""Whether what results were made from is still what their datasets' names stand for.

A file of one's own (``file:PATH``) and a loader of one's own may give other transitions tomorrow
under the same name; everything else is held to a checksum when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from obdbench.datasets.identifier import DatasetId
from obdbench.datasets.loading import load_dataset
from obdbench.errors import InvalidDataError
from obdbench.experiments.fingerprint import hash_source
from obdbench.experiments.spec import TrialSpec
from obdbench.registry import datasets
from obdbench.results.record import Result, Source
from obdbench.results.store import ResultStore
from obdbench.results.synset_store import SynsetStore


def may_change(dataset_id: str) -> bool:
    """Whether a dataset's content is in its user's hands."""
    if dataset_id in datasets:
        return hash_source(datasets, dataset_id) is not None
    return DatasetId(dataset_id).source == "file"


def check_sources(held: Iterable[tuple[TrialSpec, Source | None]]) -> None:
    """Insist that results and distillations rest on the data that is there now."""
    now: dict[str, str] = {}
    for spec, source in held:
        if source is None or not may_change(spec.dataset):
            continue
        if spec.dataset not in now:
            now[spec.dataset] = load_dataset(spec.dataset).checksum
        if source.checksum != now[spec.dataset]:
            raise InvalidDataError(
                f"{spec.dataset} has changed since the results at hand were made from it.",
                "Give changed data another name, use another --out, or run them anew with "
                "obdbench run … --fresh.",
            )


def changeable_sources(
    store: ResultStore, specs: Iterable[TrialSpec], results: Mapping[str, Result]
) -> Iterator[tuple[TrialSpec, Source | None]]:
    """Yield what results, and synsets without a result, were made from, where that may change."""
    for spec in specs:
        if may_change(spec.dataset):
            result, record = results.get(spec.key), SynsetStore(store, spec).record()
            yield spec, result.dataset if result else None
            yield spec, record.dataset if record else None
