"""Copy the results of a run to the folder of leaderboards, reduced to what the tables need."""

from __future__ import annotations

import math
from pathlib import Path

from obdbench.errors import InvalidDataError
from obdbench.reporting.grids.suite_results import read_suite_results
from obdbench.results.check_scores import find_reference_returns
from obdbench.results.record import MANIFEST, Manifest, Result, read_json, write_json

SCORE_DIGITS = 4


def publish_results(results: Path | str, out_dir: Path | str, *, strict: bool = False) -> Path:
    """Copy the results of a suite to ``out_dir/results/<suite>/`` and return that folder.

    Loss curves are left out, and returns and scores are rounded. Results of other trials in the
    target stay, and the manifests are merged, so several machines may publish one suite. A failed
    trial does not replace a published score.
    """
    source = Path(results)
    suite_results = read_suite_results(source, strict)
    suite = suite_results.suite
    if not suite or suite.startswith("."):
        raise InvalidDataError(f"{results} names no suite.", "Give the folder RESULTS/SUITE.")
    if not suite_results.entries:
        raise InvalidDataError(f"{source} holds no results to publish.", _suggest_folder(source))
    target = Path(out_dir) / "results" / suite
    for entry in suite_results.entries:
        record = read_json(Result, source / entry.file)
        path = target / f"{record.key}.json"
        if record.status != "ok" and path.is_file() and read_json(Result, path).status == "ok":
            continue
        write_json(compact_record(record), path)
    if suite_results.has_manifest:
        manifest = read_json(Manifest, source / MANIFEST)
        if (target / MANIFEST).is_file():
            manifest = manifest.merge(read_json(Manifest, target / MANIFEST))
        write_json(manifest, target / MANIFEST)
    return target


def _suggest_folder(folder: Path) -> str:
    """Advice that names a suite below the folder."""
    suites = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    example = f", such as {suites[0]}" if suites else ""
    return f"Give a suite's folder, RESULTS/SUITE{example}."


def compact_record(record: Result) -> Result:
    """The record without loss curves and with rounded numbers."""
    digits = _return_digits(record)
    points = [
        point.model_copy(
            update={
                "returns": [[round(v, digits) for v in row] for row in point.returns],
                "normalized_return": round(point.normalized_return, SCORE_DIGITS),
            }
        )
        for point in record.points
    ]
    return record.model_copy(update={"points": points, "losses": {}})


def _return_digits(record: Result) -> int:
    """Digits of returns such that rounding changes a score by at most 0.005."""
    references = find_reference_returns(record.environment) if record.environment else None
    low, high = references or (0.0, 100.0)
    return max(1, 4 - math.floor(math.log10(high - low)))
