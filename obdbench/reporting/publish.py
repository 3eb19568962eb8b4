"""From a run's folder to the committed one: compact copies, from which every table follows."""

from __future__ import annotations

from pathlib import Path

from obdbench.errors import InvalidDataError
from obdbench.reporting.suite_results import MANIFEST, read_suite_results
from obdbench.results.record import Manifest, Result, read_json, write_json

RETURN_DIGITS, SCORE_DIGITS = 1, 4


def publish(results: Path | str, out_dir: Path | str, *, strict: bool = False) -> Path:
    """Copy a suite's results to ``out_dir/results/<suite>/`` and return that folder.

    Loss curves are left out and numbers rounded: returns to a tenth, scores to a ten-thousandth.
    Results published before stay unless the same trial is published again, and the manifests are
    joined, so that several machines may publish one suite.
    """
    source = Path(results)
    collection = read_suite_results(source, strict)
    if not collection.suite or collection.suite.startswith("."):
        raise InvalidDataError(f"{results} names no suite.", "Give the folder RESULTS/SUITE.")
    if not collection.entries:
        raise InvalidDataError(f"{source} holds no results to publish.", _instead(source))
    target = Path(out_dir) / "results" / collection.suite
    for entry in collection.entries:
        record = read_json(Result, source / entry.file)
        write_json(compact(record), target / f"{record.key}.json")
    if collection.has_manifest:
        manifest = read_json(Manifest, source / MANIFEST)
        if (target / MANIFEST).is_file():
            manifest = manifest.merge(read_json(Manifest, target / MANIFEST))
        write_json(manifest, target / MANIFEST)
    return target


def _instead(folder: Path) -> str:
    """What may have been meant: the suites below a folder of results."""
    suites = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    meant = f", such as {suites[0]}" if suites else ""
    return f"Give a suite's folder, RESULTS/SUITE{meant}."


def compact(record: Result) -> Result:
    """The record without its bulk."""
    points = [
        point.model_copy(
            update={
                "returns": [[round(v, RETURN_DIGITS) for v in row] for row in point.returns],
                "normalized_return": round(point.normalized_return, SCORE_DIGITS),
            }
        )
        for point in record.points
    ]
    return record.model_copy(update={"points": points, "losses": {}})
