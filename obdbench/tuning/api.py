"""``obdbench tune``: search settings with Ray Tune and ASHA, and save the best as a preset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from obdbench.errors import InvalidSettingError, ObdError, unknown_name
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import load_and_check_inputs
from obdbench.experiments import presets
from obdbench.experiments.presets import Preset
from obdbench.experiments.spec import TrialSpec
from obdbench.experiments.suite import resolve_dataset_id
from obdbench.policies.device import check_device
from obdbench.registry import objectives
from obdbench.tuning.criterion import CRITERIA, CandidateResult
from obdbench.tuning.search_space import Candidate, SearchConfig, draw_candidates

DEFAULT_DATASETS = ("embedded/hopper-medium-replay-v1",)
SHOWN_CANDIDATES = 10


@dataclass(frozen=True)
class TuningResult:
    """The candidates, best first, and the preset that the best one became."""

    preset: Preset
    path: Path
    candidates: tuple[CandidateResult, ...]

    def format_summary(self) -> str:
        """The best candidates and how to use the preset, as the command prints them."""
        criterion = self.preset.provenance["criterion"]
        lines = [
            f"Best of {len(self.candidates)} by the criterion {criterion!r}; candidates that ASHA "
            "did not stop come first:"
        ]
        for result in self.candidates[:SHOWN_CANDIDATES]:
            values = " ".join(f"{name}={value}" for name, value in result.candidate.draw.items())
            lines.append(
                f"{result.criterion:10.5g}  step {result.step:<6} {values or '(base preset)'}"
            )
        if not self.candidates[0].candidate.draw:
            lines.append("No candidate was better than the base preset, which the new one equals.")
        lines.append(f"Saved as {self.path}; use it with --preset {self.preset.name}.")
        return "\n".join(lines)


def tune_settings(
    search: SearchConfig,
    *,
    name: str,
    config: ExecutionConfig | None = None,
) -> TuningResult:
    """Search, and save the best candidate as the preset ``name``."""
    presets.check_new_preset(name)
    config = config or ExecutionConfig(executor="ray")
    search = _check_search(search)
    candidates = draw_candidates(search)
    for candidate in candidates:  # a value that a preset cannot hold is refused before the work
        for value in (*candidate.overrides.values(), *candidate.objective_params.values()):
            presets.format_toml_value(value)
    if config.address is None:
        check_device(config.device)
    trials = [spec for candidate in candidates for spec in _trials(search, candidate)]
    load_and_check_inputs(trials)

    from obdbench.tuning.asha import search_with_asha  # Ray takes seconds to import

    results = search_with_asha(search, candidates, config)
    if not results or not math.isfinite(results[0].criterion):
        raise ObdError(
            "No candidate reached an evaluation point with a finite criterion.",
            "Try other ranges; nothing was saved.",
        )
    preset = _make_preset(name, search, results)
    return TuningResult(preset, presets.save_preset(preset), tuple(results))


def _check_search(search: SearchConfig) -> SearchConfig:
    """The search with canonical names."""
    if search.criterion not in CRITERIA:
        raise unknown_name("criterion", search.criterion, CRITERIA)
    if not search.ranges:
        raise InvalidSettingError("There is no setting to search.", "Name settings with --param.")
    if not objectives.get(search.objective).distills:
        raise InvalidSettingError(
            f"{search.objective!r} takes no steps, so it has no setting to tune.",
            "Choose another objective.",
        )
    return replace(
        search,
        objective=objectives.resolve_name(search.objective),
        datasets=tuple(map(resolve_dataset_id, search.datasets)),
        teachers={resolve_dataset_id(d): name for d, name in search.teachers.items()},
    )


def _trials(search: SearchConfig, candidate: Candidate) -> list[TrialSpec]:
    """The trials of a suite that would distill as a candidate does, one per dataset."""
    return [
        TrialSpec(
            dataset=dataset,
            teacher=search.teachers.get(dataset),
            objective=search.objective,
            objective_params=candidate.objective_params,
            settings=candidate.settings,
            seeds=search.seeds,
        )
        for dataset in search.datasets
    ]


def _make_preset(name: str, search: SearchConfig, results: Sequence[CandidateResult]) -> Preset:
    """The preset of the search with the values of the best candidate."""
    best, base = results[0], search.preset
    candidate = best.candidate
    teachers = [f"{dataset}={name}" for dataset, name in search.teachers.items()]
    params: dict[str, dict[str, Any]] = {**base.objectives}
    if candidate.objective_params:
        params[search.objective] = candidate.objective_params
    return Preset(
        name=name,
        base=base.base,
        summary=f"{search.objective} tuned on {', '.join(search.datasets)} ({search.criterion})",
        settings={**base.settings, **candidate.overrides},
        objectives=params,
        provenance={
            "criterion": search.criterion,
            "value": best.criterion,
            "step": best.step,
            "trials": len(results),
            "seeds": list(search.seeds),
            "search_seed": search.search_seed,
            "datasets": list(search.datasets),
            **({"teachers": teachers} if teachers else {}),
        },
    )
