"""Speed, measured side by side in one run: `make benchmark` on an otherwise idle machine."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from support.benchmark_setting import Setting, Step, all_cores
from support.eager import outer_step

from obdbench.distillation.infinite_width.solver import InfiniteWidthSolver

pytestmark = pytest.mark.benchmark
PAPER = Setting()
SMALL = Setting(pairs=64, steps=50)


@pytest.fixture(autouse=True)
def _cores(_one_thread: None) -> Iterator[None]:
    all_cores()
    yield
    torch.set_num_threads(1)


def measure(benchmark: Any, call: Any, *, rounds: int = 5, warm_up: int = 1, **notes: Any) -> None:
    benchmark.extra_info.update(
        notes, cores=torch.get_num_threads(), machine=platform.processor() or platform.machine()
    )
    benchmark.pedantic(call, rounds=rounds, warmup_rounds=warm_up, iterations=1)


def alternately(
    benchmark: Any, first: Any, second: Any, *, rounds: int = 9, cores: int = 0, name: str
) -> None:
    """Both calls in every round, so that what slows the machine slows both."""
    torch.set_num_threads(cores or all_cores())
    taken: list[tuple[float, float]] = []

    def both() -> None:
        started = time.perf_counter()
        first()
        between = time.perf_counter()
        second()
        taken.append((between - started, time.perf_counter() - between))

    benchmark.pedantic(both, rounds=rounds, warmup_rounds=1)
    kept = taken[1:]
    benchmark.extra_info.update(
        name=name,
        ratio=statistics.median(after / before for before, after in kept),
        best=min(after for _, after in kept) / min(before for before, _ in kept),
        first=min(before for before, _ in kept),
        cores=torch.get_num_threads(),
    )


@pytest.mark.parametrize("cores", ["all", "one"])
def test_peak(benchmark: Any, cores: str) -> None:
    """The machine's matrix-product peak: one large product."""
    if cores == "one":
        torch.set_num_threads(1)
    a, b = torch.randn(2, 2048, 2048)
    name = "peak" if cores == "all" else "peak of one core"
    measure(benchmark, lambda: a @ b, rounds=40, gigaflop=2 * 2048**3 / 1e9, name=name)


@pytest.mark.parametrize("lying", ["columns", "rows"])
def test_thin(benchmark: Any, lying: str) -> None:
    """The first layer's weight gradient as 11 columns, and as 11 rows."""
    torch.set_num_threads(1)
    d, x = torch.randn(256, 256), torch.randn(256, 11)
    left, right = (d.T, x) if lying == "columns" else (x.T, d)
    out, repeats = left @ right, 500

    def call() -> None:
        for _ in range(repeats):
            torch.mm(left, right, out=out)

    flop = 2 * 256 * 256 * 11 * repeats
    measure(benchmark, call, gigaflop=flop / 1e9, name=f"500 products to 11 thin {lying}")


TIMED = ("hopper", "walker2d")  # halfcheetah has walker2d's shape


@pytest.mark.parametrize("task", TIMED)
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


@pytest.mark.parametrize("task", TIMED)
@pytest.mark.parametrize("fast", [True, False], ids=["sweep", "general"])
def test_outer_step(benchmark: Any, task: str, fast: bool) -> None:
    name = f"{'sweep' if fast else 'general'} {task}"
    setting = Setting(task)
    step = Step(setting, use_reverse_sweep=fast)
    measure(benchmark, step, rounds=7 if fast else 3, gigaflop=setting.gigaflop, name=name)


@pytest.mark.parametrize("seeds", [2, 4, 5, 8])
def test_seeds(benchmark: Any, seeds: int) -> None:
    setting = PAPER.but(seeds=seeds)
    measure(benchmark, Step(setting), rounds=3, gigaflop=setting.gigaflop, name=f"seeds {seeds}")


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("what", ["eager", 1, 3, 5, "small"])
@pytest.mark.parametrize("width", [256, 128])
def test_one_core(benchmark: Any, what: int | str, width: int) -> None:
    """What a worker of an executor does: several seeds on one core. In CPU time."""
    torch.set_num_threads(1)
    kind = f"seeds {what}" if isinstance(what, int) else what
    setting = SMALL if what == "small" else PAPER.but(seeds=what if isinstance(what, int) else 1)
    setting = setting.but(width=width)
    step: Any = Step(setting)
    if what == "eager":
        given = (step.x[0], step.a[0], step.states[0], step.target[0])
        step = partial(outer_step, *given, width=width)
    name = f"one core, {kind}" + ("" if width == 256 else f", width {width}")
    measure(benchmark, step, rounds=4, gigaflop=setting.gigaflop, name=name)


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("seeds", [1, 3])
def test_infinite_width(benchmark: Any, seeds: int) -> None:
    """The step that the preset `fast` mostly takes, on one core, in CPU time."""
    torch.set_num_threads(1)
    step = Step(PAPER.but(seeds=seeds, states=1024))
    limit = InfiniteWidthSolver(PAPER.architecture.depth, 0.1, PAPER.steps)

    def once() -> Any:
        return limit(
            step.x, step.a, step.states, lambda y: (y - step.target).square().mean((-1, -2))
        )

    measure(benchmark, once, rounds=20, name=f"infinite width, seeds {seeds}")


@pytest.mark.parametrize("steps", [25, 50, 200])
def test_inner_steps(benchmark: Any, steps: int) -> None:
    setting = PAPER.but(steps=steps)
    measure(benchmark, Step(setting), rounds=4, gigaflop=setting.gigaflop, name=f"steps {steps}")


@pytest.mark.parametrize("pairs", [64, 128, 512])
def test_pairs(benchmark: Any, pairs: int) -> None:
    setting = PAPER.but(pairs=pairs)
    measure(benchmark, Step(setting), rounds=4, gigaflop=setting.gigaflop, name=f"pairs {pairs}")


def test_small(benchmark: Any) -> None:
    measure(benchmark, Step(SMALL), rounds=60, gigaflop=SMALL.gigaflop, name="small")


@pytest.mark.parametrize("cores", [0, 1], ids=["all", "one"])
@pytest.mark.parametrize("task", TIMED)
def test_beside_eager(benchmark: Any, task: str, cores: int) -> None:
    """The sweep and the usual way in turn."""
    step = Step(Setting(task))
    given = (step.x[0], step.a[0], step.states[0], step.target[0])
    alternately(
        benchmark,
        partial(outer_step, *given),
        step,
        cores=cores,
        name=f"ratio: {'one core, ' if cores else ''}{task}, eager to sweep",
    )


@pytest.mark.parametrize("cores", [0, 1], ids=["all", "one"])
@pytest.mark.parametrize("task", TIMED)
def test_beside_peak(benchmark: Any, task: str, cores: int) -> None:
    """The sweep and large products in turn, for the speed of the machine wanders between tests."""
    setting, products = Setting(task), 8
    a, b = torch.randn(2, 2048, 2048)
    out = torch.empty_like(a)

    def peak() -> None:
        for _ in range(products):
            torch.mm(a, b, out=out)

    alternately(
        benchmark,
        peak,
        Step(setting),
        cores=cores,
        name=f"share: {'one core, ' if cores else ''}{task}",
    )
    gigaflop = 2 * 2048**3 * products / 1e9
    benchmark.extra_info.update(
        work=setting.gigaflop / gigaflop, peak=gigaflop / benchmark.extra_info["first"]
    )


GROWN = [("seeds", 1, 5), ("seeds", 1, 8), ("steps", 25, 200), ("pairs", 64, 512)]
GROWN += [("pairs", 256, 2048)]


@pytest.mark.parametrize("cores", [0, 1], ids=["all", "one"])
@pytest.mark.parametrize(("what", "few", "many"), GROWN)
def test_growth(benchmark: Any, what: str, few: int, many: int, cores: int) -> None:
    """Few and many in turn."""
    alternately(
        benchmark,
        Step(PAPER.but(**{what: few})),
        Step(PAPER.but(**{what: many})),
        rounds=5 if cores else 11,
        cores=cores,
        name=f"ratio: {'one core, ' if cores else ''}{few} to {many} {what}",
    )


@pytest.mark.parametrize("task", TIMED)
def test_precision(benchmark: Any, task: str) -> None:
    """The gradient of both paths in float32 against float64, and of both in float64."""
    setting = Setting(task, seeds=3)
    found: dict[tuple[bool, torch.dtype], torch.Tensor] = {}

    def call() -> None:
        for fast in (True, False):
            for dtype in (torch.float64, torch.float32):
                gradient = Step(setting, use_reverse_sweep=fast, dtype=dtype)()
                both = [gradient.states.flatten(1), gradient.actions.flatten(1)]
                found[fast, dtype] = torch.cat(both, 1).double()

    benchmark.pedantic(call, rounds=1)
    exact = found[False, torch.float64]

    def errors(fast: bool, dtype: torch.dtype) -> list[float]:
        return ((found[fast, dtype] - exact).norm(dim=1) / exact.norm(dim=1)).tolist()

    benchmark.extra_info.update(
        name=f"precision {task}",
        float64=max(errors(True, torch.float64)),
        sweep=errors(True, torch.float32),
        general=errors(False, torch.float32),
        cores=torch.get_num_threads(),
    )


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
        "import sys; sys.path.insert(0, 'tests');"
        "from support.benchmark_setting import Setting, Step, all_cores; all_cores(); Step(Setting())()"
    )
    measure(
        benchmark,
        lambda: subprocess.run([sys.executable, "-c", code], check=True),
        rounds=3,
        warm_up=0,
        name="start",
    )


@pytest.mark.parametrize(("seeds", "steps"), [(5, 100), (1, 1000)])
def test_peak_memory(benchmark: Any, seeds: int, steps: int) -> None:
    """Resident memory of a process that takes two outer steps."""
    code = (
        "import sys; sys.path.insert(0, 'tests');"
        "from support.benchmark_setting import Setting, Step, all_cores; all_cores();"
        f"step = Step(Setting(seeds={seeds}, steps={steps})); step(); step();"
        "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')];"
        "print(int(peak[0].split()[1]) / 2**20)"  # ru_maxrss would count the parent's memory too
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
    import gymnasium
    import numpy as np

    from obdbench.datasets.loading import load_dataset
    from obdbench.distillation.settings import resolve_settings
    from obdbench.distillation.synset import Synset
    from obdbench.evaluation.students import BatchedActor, episode_seeds, train_students
    from obdbench.tasks.rollout import run_episodes

    dataset = load_dataset("embedded/hopper-medium-replay-v0")
    best = np.argsort(-dataset.observations[:, 5])[:2560:10]
    synset = Synset(
        dataset.states[best], dataset.actions[best], dataset.standardizer, dataset.task, {"step": 0}
    )
    settings = resolve_settings("fast")
    how = Step(PAPER).how
    params = train_students(how, [synset], [0], policies, settings)
    actor = BatchedActor(how.architecture, params, [synset.standardizer], episodes)
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
    benchmark.pedantic(lambda: found.append(_rollout(10, 10)), rounds=7, warmup_rounds=1)
    ratio = statistics.median(bare / evaluation for _, evaluation, bare in found[1:])
    steps = found[-1][0]
    benchmark.extra_info.update(
        name="evaluation", ratio=ratio, env_steps=steps, cores=torch.get_num_threads()
    )
