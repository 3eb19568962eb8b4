"""Speed, measured side by side in one run: `make benchmark` on an otherwise idle machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from eager import outer_step
from setting import SHAPES, Setting, Step, all_cores

pytestmark = pytest.mark.benchmark
PAPER = Setting()
SMALL = Setting(pairs=64, steps=50)


@pytest.fixture(autouse=True)
def _cores(_one_thread: None) -> Iterator[None]:
    all_cores()
    yield
    torch.set_num_threads(1)


def measure(benchmark: Any, call: Any, *, rounds: int = 7, **notes: Any) -> None:
    benchmark.extra_info.update(
        notes, cores=torch.get_num_threads(), machine=platform.processor() or platform.machine()
    )
    benchmark.pedantic(call, rounds=rounds, warmup_rounds=2, iterations=1)


def test_peak(benchmark: Any) -> None:
    """The machine's matrix-product peak: one large product."""
    a, b = torch.randn(2, 2048, 2048)
    measure(benchmark, lambda: a @ b, rounds=15, gigaflop=2 * 2048**3 / 1e9, name="peak")


@pytest.mark.parametrize("task", list(SHAPES))
def test_eager(benchmark: Any, task: str) -> None:
    step = Step(Setting(task))
    x, a = step.x[0], step.a[0]
    states, target = step.states[0], step.target[0]
    measure(
        benchmark,
        lambda: outer_step(x, a, states, target),
        gigaflop=Setting(task).gigaflop,
        name=f"eager {task}",
    )


@pytest.mark.parametrize("task", list(SHAPES))
@pytest.mark.parametrize("fast", [True, False], ids=["sweep", "general"])
def test_outer_step(benchmark: Any, task: str, fast: bool) -> None:
    name = f"{'sweep' if fast else 'general'} {task}"
    setting = Setting(task)
    measure(benchmark, Step(setting, fast=fast), gigaflop=setting.gigaflop, name=name)


@pytest.mark.parametrize("seeds", [2, 4, 5, 8])
def test_seeds(benchmark: Any, seeds: int) -> None:
    setting = PAPER.but(seeds=seeds)
    measure(benchmark, Step(setting), rounds=3, gigaflop=setting.gigaflop, name=f"seeds {seeds}")


@pytest.mark.parametrize("steps", [25, 50, 200])
def test_inner_steps(benchmark: Any, steps: int) -> None:
    setting = PAPER.but(steps=steps)
    measure(benchmark, Step(setting), rounds=5, gigaflop=setting.gigaflop, name=f"steps {steps}")


@pytest.mark.parametrize("pairs", [64, 128, 512])
def test_pairs(benchmark: Any, pairs: int) -> None:
    setting = PAPER.but(pairs=pairs)
    measure(benchmark, Step(setting), rounds=5, gigaflop=setting.gigaflop, name=f"pairs {pairs}")


def test_small(benchmark: Any) -> None:
    measure(benchmark, Step(SMALL), rounds=15, gigaflop=SMALL.gigaflop, name="small")


@pytest.mark.parametrize("window", [50, 25])
def test_window(benchmark: Any, window: int) -> None:
    measure(
        benchmark,
        Step(PAPER, window=window),
        gigaflop=PAPER.gigaflop,
        name=f"window {window}",
    )


def test_start_to_first_step(benchmark: Any) -> None:
    """A fresh process: import, buffers, one outer step at the paper's setting."""
    code = (
        "import sys; sys.path.insert(0, 'tests/benchmarks');"
        "from setting import Setting, Step, all_cores; all_cores(); Step(Setting())()"
    )
    measure(
        benchmark,
        lambda: subprocess.run([sys.executable, "-c", code], check=True),
        rounds=3,
        name="start",
    )


@pytest.mark.parametrize(("seeds", "steps"), [(5, 100), (1, 1000)])
def test_peak_memory(benchmark: Any, seeds: int, steps: int) -> None:
    """Resident memory of a process that takes two outer steps."""
    code = (
        "import resource, sys; sys.path.insert(0, 'tests/benchmarks');"
        "from setting import Setting, Step, all_cores; all_cores();"
        f"step = Step(Setting(seeds={seeds}, steps={steps})); step(); step();"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
    )
    found: list[float] = []

    def call() -> None:
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        found.append(float(done.stdout))

    benchmark.pedantic(call, rounds=1)
    name = f"memory {seeds} seeds {steps} steps"
    benchmark.extra_info.update(gibibyte=max(found), name=name, cores=torch.get_num_threads())


def _rollout(policies: int, episodes: int) -> tuple[int, float, float]:
    """Steps taken, seconds of the evaluation, seconds of bare stepping for as many steps."""
    import time

    import gymnasium
    import numpy as np

    from obdbench.data.dataset import load_dataset
    from obdbench.distill.settings import settings_from
    from obdbench.distill.synset import Synset
    from obdbench.envs.rollout import run_episodes
    from obdbench.evaluation.students import Actor, episode_seeds, train

    dataset = load_dataset("embedded/hopper-medium-replay-v0")
    best = np.argsort(-dataset.observations[:, 5])[:2560:10]
    synset = Synset(
        dataset.states[best], dataset.actions[best], dataset.standardizer, dataset.task, {"step": 0}
    )
    settings = settings_from("fast")
    how = Step(PAPER).how
    params = train(how, [synset], [0], policies, settings)
    actor = Actor(how.architecture, params, [synset.standardizer], episodes)
    resets = episode_seeds(0, 0, policies, episodes)
    run_episodes(actor, dataset.task, resets[:2])
    started = time.perf_counter()
    steps = int(run_episodes(actor, dataset.task, resets).lengths.sum())
    evaluation = time.perf_counter() - started

    env = gymnasium.make(dataset.task.env_id).unwrapped
    env.reset(seed=0)
    action = np.zeros(dataset.action_size, np.float32)
    started = time.perf_counter()
    for _ in range(steps):
        if env.step(action)[2]:
            env.reset()
    return steps, evaluation, time.perf_counter() - started


def test_evaluation(benchmark: Any) -> None:
    """100 hopper episodes of 10 policies beside the bare environment."""
    found: list[tuple[int, float, float]] = []
    benchmark.pedantic(lambda: found.append(_rollout(10, 10)), rounds=3)
    ratio = max(bare / evaluation for _, evaluation, bare in found)
    steps = found[-1][0]
    benchmark.extra_info.update(
        name="evaluation", ratio=ratio, env_steps=steps, cores=torch.get_num_threads()
    )
