"""Checks that a selection method fulfils its interface, in seconds on toy data."""

from __future__ import annotations

import numpy as np

from obdbench.datasets.dataset import Array
from obdbench.selection.selection_method import SelectionMethod, select_rows
from obdbench.validation.contract import (
    Clause,
    ContractError,
    check_side_effects,
    toy_dataset,
    toy_teacher,
)

COUNTS = (1, 8, 64)  # numbers of pairs


class SelectionChecks:
    """The checks of one selection method on small random data."""

    def __init__(self, method: SelectionMethod) -> None:
        self.method, self.target = method, type(method)
        self.dataset = toy_dataset()
        self.teacher = toy_teacher() if method.uses_teacher else None

    def clauses(self) -> list[Clause]:
        """Each clause of the contract with the method that it concerns and its check."""
        suffix = "" if self.method.uses_teacher else ", without a teacher"
        clauses: list[Clause] = [
            (f"select returns distinct rows of the data{suffix}", "select", self.check_rows),
            ("select is deterministic given its generator", "select", self.check_repeats),
            ("select does not change data or random state", "select", self.check_side_effects),
        ]
        if self.method.uses_teacher:
            clauses.append(("it needs the teacher it declares", "select", self.check_teacher))
        return clauses

    def select(self, pairs: int, seed: int = 0) -> Array:
        return select_rows(
            self.method, self.dataset, self.teacher, pairs, np.random.default_rng(seed)
        )

    def check_rows(self) -> str:
        for pairs in COUNTS:
            self.select(pairs)
        return f"{', '.join(map(str, COUNTS))} pairs"

    def check_repeats(self) -> None:
        for pairs in COUNTS:
            if not np.array_equal(self.select(pairs), self.select(pairs)):
                raise ContractError(
                    f"two selections of {pairs} rows with equal generators differ; draw from rng"
                )

    def check_side_effects(self) -> None:
        self.dataset = toy_dataset()  # earlier checks may have changed theirs
        check_side_effects(self.dataset, lambda: self.select(COUNTS[-1]), "rng")

    def check_teacher(self) -> None:
        try:
            self.method.select(toy_dataset(), None, COUNTS[0], np.random.default_rng(0))
        except Exception:
            return
        raise ContractError("it selects without a teacher; set uses_teacher to False")
