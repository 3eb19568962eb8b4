"""A suite file and committed results that fuzz tests start from."""

from __future__ import annotations

from support.paths import FIXTURES as ALL_FIXTURES

FIXTURES = ALL_FIXTURES / "results" / "quick"
SUITE = b"""
summary = "one line"
preset = "fast"
datasets = ["embedded/hopper-medium-replay-v1", "file:mine.npz#hopper"]
seeds = "0-2"
[settings]
steps = 5
inner_lr = 0.05
clip = 2.0
evaluate_at = [0.0, 1.0]
[[objectives]]
name = "random"
[[objectives]]
name = "sdw"
[objectives.params]
base = "pbc"
tau = 0.2
floor_quantile = 0.02
density_normalization = "none"
weight_normalization = "none"
beta = 0.02
sample_teacher = true
[[protocols]]
name = "ensemble"
params = { policies = 5, lr = 0.2 }
[[protocols]]
name = "cross-architecture"
[protocols.params]
architectures = ["mlp2"]
published = true
steps = 30
points = 2
lr = 0.1
[[protocols]]
name = "cross-optimizer"
[protocols.params]
rates = { adam = 0.001 }
setting = "own"
episodes = 2
[[protocols]]
name = "size"
[protocols.params]
sizes = [4, 8]
"""


def result_file_names() -> list[str]:
    """Names of the committed result files, sorted."""
    return sorted(path.name for path in FIXTURES.glob("*.json") if path.stem != "manifest")
