"""Our statistics against rliable's, which is installed in another environment.

rliable 1.2.0 does not import beside pandas 3 and ignores its seed, so it is no dependency of the
product: this test builds a virtual environment with pinned versions and asks it once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from obdbench.reporting.grids import statistics as stats
from obdbench.reporting.grids.grouping import build_grids

PINS = ("rliable==1.2.0", "pandas==2.2.3", "numpy==1.26.4", "scipy==1.13.1", "arch==7.0.0")
ASK = """
import json, sys
import numpy as np
from rliable import library, metrics
data = json.load(sys.stdin)
ours, theirs = np.array(data["ours"]), np.array(data["theirs"])
iqm = lambda scores: np.array([metrics.aggregate_iqm(scores)])
chance = lambda x, y: np.array([metrics.probability_of_improvement(x, y)])
points, bounds = library.get_interval_estimates({"a": ours}, iqm, reps=20000)
wins, win_bounds = library.get_interval_estimates({"a": (ours, theirs)}, chance, reps=2000)
taus = np.array(data["taus"])
profile = library.create_performance_profile({"a": ours}, taus, reps=10)[0]["a"]
print(json.dumps({
    "iqm": [float(points["a"][0]), *map(float, bounds["a"][:, 0])],
    "chance": [float(wins["a"][0]), *map(float, win_bounds["a"][:, 0])],
    "profile": [float(share) for share in profile],
}))
"""


def in_bin(environment: Path, name: str) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin") / name


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has rliable."""
    environment = tmp_path_factory.mktemp("rliable") / "environment"
    venv.create(environment, with_pip=True)
    executable = in_bin(environment, "python")
    command = [str(executable), "-m", "pip", "install", "--quiet", *PINS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"rliable cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return executable


def random_groups() -> tuple[np.ndarray, np.ndarray]:
    """Five seeds of nine datasets, with means as far apart as the real ones."""
    rng = np.random.default_rng(7)
    means = rng.uniform(5.0, 60.0, size=9)
    return tuple(rng.normal(means + gain, 5.0, size=(5, 9)) for gain in (3.0, 0.0))


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("case", ["fixture", "random"])
def test_rliable_agrees_within_a_hundredth(python, d4rl, case):
    if case == "fixture":
        part = next(part for part in build_grids(d4rl) if part.protocol == "default")
        rows = {row.label: row for row in part.rows}
        ours, theirs = (np.array(rows[name].scores_by_dataset).T for name in ("sdw", "av-pbc"))
    else:
        ours, theirs = random_groups()
    taus = np.linspace(0.0, 60.0, 13)
    question = {"ours": ours.tolist(), "theirs": theirs.tolist(), "taus": taus.tolist()}
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", ASK],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    groups, others = ours.T.tolist(), theirs.T.tolist()
    iqm = stats.bootstrap_interval(stats.interquartile_mean, groups, replicates=20_000)
    chance = stats.bootstrap_interval(
        stats.probability_of_improvement, groups, others, replicates=2_000
    )
    profile = stats.performance_profile(taus)(stats.as_arrays(groups))
    sys.stderr.write(f"\n{case}: rliable {answer}\nours {iqm} {chance}\n")
    assert (iqm.estimate, iqm.low, iqm.high) == pytest.approx(answer["iqm"], rel=0.01)
    assert chance.estimate == pytest.approx(answer["chance"][0], abs=1e-12)
    # rliable takes milliseconds a replicate and draws without a seed: its bounds move by 0.005
    assert (chance.low, chance.high) == pytest.approx(answer["chance"][1:], abs=0.02)
    assert profile.tolist() == pytest.approx(answer["profile"], abs=1e-12)
