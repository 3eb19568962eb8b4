"""Speed of outer steps and evaluation; run `make benchmark` on an otherwise idle machine."""

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
from support.benchmark_setting import BenchmarkSetting, BenchmarkStep, use_all_cores
from support.eager import eager_outer_step

import obdbench
from obdbench.distillation.infinite_width.student import InfiniteWidthStudent
from obdbench.distillation.loop import distill_points
from obdbench.distillation.settings import resolve_settings
from obdbench.objectives.objective import make_objective
from obdbench.policies.torch_settings import has_bfloat16_products

pytestmark = pytest.mark.benchmark
PAPER = BenchmarkSetting()
SMALL = BenchmarkSetting(pairs=64, steps=50)


@pytest.fixture(autouse=True)
def _use_all_cores(_one_thread: None) -> Iterator[None]:
    use_all_cores()
    yield
    torch.set_num_threads(1)


def measure(benchmark: Any, call: Any, *, rounds: int = 5, warm_up: int = 1, **notes: Any) -> None:
    benchmark.extra_info.update(
        notes, cores=torch.get_num_threads(), machine=platform.processor() or platform.machine()
    )
    benchmark.pedantic(call, rounds=rounds, warmup_rounds=warm_up, iterations=1)


def measure_alternately(
    benchmark: Any, first: Any, second: Any, *, rounds: int = 9, cores: int = 0, name: str
) -> None:
    """Time two calls in alternation, so that changes of the machine's speed affect both."""
    torch.set_num_threads(cores or use_all_cores())
    seconds: list[tuple[float, float]] = []

    def call_both() -> None:
        started = time.perf_counter()
        first()
        between = time.perf_counter()
        second()
        seconds.append((between - started, time.perf_counter() - between))

    benchmark.pedantic(call_both, rounds=rounds, warmup_rounds=1)
    without_warm_up = seconds[1:]
    benchmark.extra_info.update(
        name=name,
        ratio=statistics.median(after / before for before, after in without_warm_up),
        best=min(after for _, after in without_warm_up)
        / min(before for before, _ in without_warm_up),
        first=min(before for before, _ in without_warm_up),
        cores=torch.get_num_threads(),
    )


@pytest.mark.parametrize("cores", ["all", "one"])
def test_peak(benchmark: Any, cores: str) -> None:
    """The machine's peak rate: one large matrix product."""
    if cores == "one":
        torch.set_num_threads(1)
    a, b = torch.randn(2, 2048, 2048)
    name = "peak" if cores == "all" else "peak of one core"
    measure(benchmark, lambda: a @ b, rounds=40, gigaflop=2 * 2048**3 / 1e9, name=name)


@pytest.mark.parametrize("layout", ["columns", "rows"])
def test_thin_products(benchmark: Any, layout: str) -> None:
    """The first layer's weight gradient as 11 columns and as 11 rows."""
    torch.set_num_threads(1)
    d, x = torch.randn(256, 256), torch.randn(256, 11)
    transposed, right = (d.T, x) if layout == "columns" else (x.T, d)
    out, repeats = transposed @ right, 500

    def call() -> None:
        for _ in range(repeats):
            torch.mm(transposed, right, out=out)

    flop = 2 * 256 * 256 * 11 * repeats
    measure(benchmark, call, gigaflop=flop / 1e9, name=f"500 products to 11 thin {layout}")


TIMED = ("hopper", "walker2d")  # halfcheetah has walker2d's shape


@pytest.mark.parametrize("task", TIMED)
def test_eager_step(benchmark: Any, task: str) -> None:
    step = BenchmarkStep(BenchmarkSetting(task))
    x, a = step.x[0], step.a[0]
    states, target = step.states[0], step.target[0]
    measure(
        benchmark,
        lambda: eager_outer_step(x, a, states, target),
        gigaflop=BenchmarkSetting(task).gigaflop,
        name=f"eager {task}",
    )


@pytest.mark.parametrize("task", TIMED)
@pytest.mark.parametrize("use_reverse_sweep", [True, False], ids=["sweep", "general"])
def test_outer_step(benchmark: Any, task: str, use_reverse_sweep: bool) -> None:
    name = f"{'sweep' if use_reverse_sweep else 'general'} {task}"
    setting = BenchmarkSetting(task)
    step = BenchmarkStep(setting, use_reverse_sweep=use_reverse_sweep)
    measure(
        benchmark, step, rounds=7 if use_reverse_sweep else 3, gigaflop=setting.gigaflop, name=name
    )


@pytest.mark.parametrize("seeds", [2, 4, 5, 8])
def test_stacked_seeds(benchmark: Any, seeds: int) -> None:
    setting = PAPER.replace(seeds=seeds)
    measure(
        benchmark,
        BenchmarkStep(setting),
        rounds=3,
        gigaflop=setting.gigaflop,
        name=f"seeds {seeds}",
    )


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("what", ["eager", 1, 3, 5, "small"])
@pytest.mark.parametrize("width", [256, 128])
def test_one_core(benchmark: Any, what: int | str, width: int) -> None:
    """Several seeds on one core, as in a worker process, in CPU time."""
    torch.set_num_threads(1)
    kind = f"seeds {what}" if isinstance(what, int) else what
    setting = (
        SMALL if what == "small" else PAPER.replace(seeds=what if isinstance(what, int) else 1)
    )
    setting = setting.replace(width=width)
    step: Any = BenchmarkStep(setting)
    if what == "eager":
        inputs = (step.x[0], step.a[0], step.states[0], step.target[0])
        step = partial(eager_outer_step, *inputs, width=width)
    name = f"one core, {kind}" + ("" if width == 256 else f", width {width}")
    measure(benchmark, step, rounds=4, gigaflop=setting.gigaflop, name=name)


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("seeds", [1, 3])
def test_infinite_width_step(benchmark: Any, seeds: int) -> None:
    """The most frequent step of the preset `fast` on one core, in CPU time."""
    torch.set_num_threads(1)
    step = BenchmarkStep(PAPER.replace(seeds=seeds, states=1024))
    infinite_width = InfiniteWidthStudent(PAPER.architecture.depth, 0.1, PAPER.steps)

    def take_step() -> Any:
        return infinite_width.meta_gradient(
            step.x, step.a, step.states, lambda y: (y - step.target).square().mean((-1, -2))
        )

    measure(benchmark, take_step, rounds=20, name=f"infinite width, seeds {seeds}")


@pytest.mark.parametrize("steps", [25, 50, 200])
def test_inner_steps(benchmark: Any, steps: int) -> None:
    setting = PAPER.replace(steps=steps)
    measure(
        benchmark,
        BenchmarkStep(setting),
        rounds=4,
        gigaflop=setting.gigaflop,
        name=f"steps {steps}",
    )


@pytest.mark.parametrize("pairs", [64, 128, 512])
def test_pairs(benchmark: Any, pairs: int) -> None:
    setting = PAPER.replace(pairs=pairs)
    measure(
        benchmark,
        BenchmarkStep(setting),
        rounds=4,
        gigaflop=setting.gigaflop,
        name=f"pairs {pairs}",
    )


def test_small(benchmark: Any) -> None:
    measure(benchmark, BenchmarkStep(SMALL), rounds=60, gigaflop=SMALL.gigaflop, name="small")


@pytest.mark.parametrize("cores", [0, 1], ids=["all", "one"])
@pytest.mark.parametrize("task", TIMED)
@pytest.mark.parametrize(
    "precision", ["float32", *(["bfloat16"] if has_bfloat16_products() else [])]
)
def test_sweep_against_eager_step(benchmark: Any, task: str, cores: int, precision: str) -> None:
    """The reverse sweep and the eager step in alternation."""
    step = BenchmarkStep(BenchmarkSetting(task), precision=precision)
    inputs = (step.x[0], step.a[0], step.states[0], step.target[0])
    factors = "" if precision == "float32" else f" with {precision} factors"
    measure_alternately(
        benchmark,
        partial(eager_outer_step, *inputs),
        step,
        cores=cores,
        name=f"ratio: {'one core, ' if cores else ''}{task}, eager to sweep{factors}",
    )


@pytest.mark.parametrize("cores", [0, 1], ids=["all", "one"])
@pytest.mark.parametrize("task", TIMED)
def test_sweep_against_peak(benchmark: Any, task: str, cores: int) -> None:
    """The reverse sweep and large products in alternation, as the machine's speed varies."""
    setting, products = BenchmarkSetting(task), 8
    a, b = torch.randn(2, 2048, 2048)
    out = torch.empty_like(a)

    def peak() -> None:
        for _ in range(products):
            torch.mm(a, b, out=out)

    measure_alternately(
        benchmark,
        peak,
        BenchmarkStep(setting),
        cores=cores,
        name=f"share: {'one core, ' if cores else ''}{task}",
    )
    gigaflop = 2 * 2048**3 * products / 1e9
    benchmark.extra_info.update(
        work=setting.gigaflop / gigaflop, peak=gigaflop / benchmark.extra_info["first"]
    )


SIZE_PAIRS = [("seeds", 1, 5), ("seeds", 1, 8), ("steps", 25, 200), ("pairs", 64, 512)]
SIZE_PAIRS += [("pairs", 256, 2048)]


@pytest.mark.parametrize("cores", [0, 1], ids=["all", "one"])
@pytest.mark.parametrize(("what", "few", "many"), SIZE_PAIRS)
def test_growth(benchmark: Any, what: str, few: int, many: int, cores: int) -> None:
    """A small and a large size in alternation."""
    measure_alternately(
        benchmark,
        BenchmarkStep(PAPER.replace(**{what: few})),
        BenchmarkStep(PAPER.replace(**{what: many})),
        rounds=5 if cores else 11,
        cores=cores,
        name=f"ratio: {'one core, ' if cores else ''}{few} to {many} {what}",
    )


@pytest.mark.parametrize("task", TIMED)
def test_precision(benchmark: Any, task: str) -> None:
    """Errors of all methods in float32 relative to float64, and their difference in float64."""
    setting = BenchmarkSetting(task, seeds=3)
    methods: dict[str, dict[str, Any]] = {
        "exact": {"use_reverse_sweep": False, "dtype": torch.float64},
        "float64": {"dtype": torch.float64},
        "sweep": {},
        "general": {"use_reverse_sweep": False},
    }
    if has_bfloat16_products():
        methods["bfloat16"] = {"precision": "bfloat16"}
    gradients: dict[str, torch.Tensor] = {}

    def call() -> None:
        for name, options in methods.items():
            gradient = BenchmarkStep(setting, **options)()
            both = [gradient.states.flatten(1), gradient.actions.flatten(1)]
            gradients[name] = torch.cat(both, 1).double()

    benchmark.pedantic(call, rounds=1)
    exact = gradients.pop("exact")
    errors = {
        name: ((gradient - exact).norm(dim=1) / exact.norm(dim=1)).tolist()
        for name, gradient in gradients.items()
    }
    benchmark.extra_info.update(
        {**errors, "float64": max(errors["float64"])},
        name=f"precision {task}",
        cores=torch.get_num_threads(),
    )


@pytest.mark.parametrize("window", [50, 25])
def test_window(benchmark: Any, window: int) -> None:
    measure(
        benchmark,
        BenchmarkStep(PAPER, window=window),
        gigaflop=PAPER.gigaflop,
        name=f"window {window}",
    )


@pytest.mark.parametrize(("preset", "interval", "last"), [("fast", 20, 420), ("exact", 10, 120)])
def test_seconds_to_missed_variance(benchmark: Any, preset: str, interval: int, last: int) -> None:
    """The seconds of distillation after which real students miss a given share of variance."""
    torch.set_num_threads(1)
    steps = resolve_settings(preset).steps
    fractions = [step / steps for step in range(0, last + 1, interval)]
    settings = resolve_settings(preset, {"guard_interval": interval, "evaluate_at": fractions})
    name = "embedded/hopper-medium-expert-v1"
    dataset, teacher = obdbench.load_dataset(name), obdbench.load_teacher(name)
    curve: list[tuple[float, float]] = []

    def call() -> None:
        points = distill_points(dataset, teacher, make_objective("av-pbc"), settings, [30])
        curve.extend((p.seconds, p.checks[0][-1].missed_variance) for p in points)

    measure(benchmark, call, rounds=1, warm_up=0, name=f"missed variance {preset}", curve=curve)


def test_start_to_first_step(benchmark: Any) -> None:
    """A new process: import, buffers, one outer step with the paper's sizes."""
    code = (
        "import sys; sys.path.insert(0, 'tests');"
        "from support.benchmark_setting import BenchmarkSetting, BenchmarkStep, use_all_cores; "
        "use_all_cores(); BenchmarkStep(BenchmarkSetting())()"
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
    """Peak resident memory of a process that takes two outer steps."""
    code = (
        "import sys; sys.path.insert(0, 'tests');"
        "from support.benchmark_setting import BenchmarkSetting, BenchmarkStep, use_all_cores; "
        "use_all_cores();"
        f"step = BenchmarkStep(BenchmarkSetting(seeds={seeds}, steps={steps})); step(); step();"
        "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')];"
        "print(int(peak[0].split()[1]) / 2**20)"  # ru_maxrss would count the parent's memory too
    )
    results: list[float] = []

    def call() -> None:
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        results.append(float(done.stdout))

    benchmark.pedantic(call, rounds=1)
    name = f"memory {seeds} seeds {steps} steps"
    benchmark.extra_info.update(gibibyte=max(results), name=name, cores=torch.get_num_threads())


def evaluate_against_bare_environment(policies: int, episodes: int) -> tuple[int, float, float]:
    """Return environment steps, seconds of the evaluation, and seconds of bare stepping."""
    import gymnasium
    import numpy as np

    from obdbench.datasets.loading import load_dataset
    from obdbench.distillation.synset import Synset
    from obdbench.evaluation.students import BatchedActor, episode_seeds, train_students
    from obdbench.tasks.rollout import run_episodes

    dataset = load_dataset("embedded/hopper-medium-replay-v1")
    best = np.argsort(-dataset.observations[:, 5])[:2560:10]
    synset = Synset(
        dataset.states[best], dataset.actions[best], dataset.standardizer, dataset.task, {"step": 0}
    )
    settings = resolve_settings("fast")
    cloning = BenchmarkStep(PAPER).cloning
    params = train_students(cloning, [synset], [0], policies, settings)
    actor = BatchedActor(cloning.architecture, params, [synset.standardizer], episodes)
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


@pytest.mark.parametrize("task_name", ["pendulum", "ant"])
def test_gymnasium_stepping(benchmark: Any, task_name: str) -> None:
    """50 slots of a Gymnasium task against stepping 50 bare environments."""
    import gymnasium
    import numpy as np

    from obdbench.tasks.action_bounds import to_environment_actions
    from obdbench.tasks.gymnasium_environment import GymnasiumSlots
    from obdbench.tasks.task import get_task

    task = get_task(task_name)
    slots, steps = GymnasiumSlots(task), 20
    environments = [gymnasium.make(task.env_id) for _ in range(50)]
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (steps, 50, task.action_size)).astype(np.float32)
    scaled = to_environment_actions(task, actions)

    def step_bare() -> None:
        for rows in scaled:
            for environment, action in zip(environments, rows, strict=True):
                environment.step(action)

    def step_slots() -> None:
        for rows in actions:
            slots.step(np.arange(50), rows)

    slots.reset(range(50))
    for seed, environment in enumerate(environments):
        environment.reset(seed=seed)
    name = f"ratio: stepping 50 {task_name} slots over bare environments"
    measure_alternately(benchmark, step_bare, step_slots, cores=1, name=name)
    assert benchmark.extra_info["ratio"] <= 1 / 0.9


def test_evaluation(benchmark: Any) -> None:
    """100 hopper episodes of 10 policies against stepping the bare environment."""
    results: list[tuple[int, float, float]] = []
    benchmark.pedantic(
        lambda: results.append(evaluate_against_bare_environment(10, 10)), rounds=7, warmup_rounds=1
    )
    ratio = statistics.median(bare / evaluation for _, evaluation, bare in results[1:])
    steps = results[-1][0]
    benchmark.extra_info.update(
        name="evaluation", ratio=ratio, env_steps=steps, cores=torch.get_num_threads()
    )
