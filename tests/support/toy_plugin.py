"""A toy dataset, a protocol without an environment, and objectives that misbehave.

Loaded as a plugin, by path, in the tests' own process and in workers.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from obdbench import register_dataset, register_objective, register_protocol
from obdbench.datasets.dataset import Dataset
from obdbench.evaluation.protocol import Protocol, SeedScore
from obdbench.objectives.dbc import DBC
from obdbench.tasks.task import TASKS, normalized_return

TASK = TASKS["hopper"]


@register_dataset("toy/hopper-toy-v0")
def toy(dataset_id):
    rng = np.random.default_rng(3)
    n = 300
    observations = rng.standard_normal((n, TASK.observation_size)).astype(np.float32)
    return Dataset(
        id=dataset_id,
        task=TASK,
        observations=observations,
        actions=np.tanh(observations[:, : TASK.action_size]),
        rewards=np.zeros(n, np.float32),
        terminals=np.zeros(n, bool),
    )


def make_immutable_after_a_result(folder):
    """Forbid new files in a folder of results once there is a result; even root obeys."""
    if folder and list(Path(folder).glob("*[0-9a-f].json")):
        subprocess.run(["chattr", "+i", folder], check=True)


@register_protocol("toy")
class ToyProtocol(Protocol):
    """The score is a number made of the synset."""

    name = "toy"

    def __init__(self, *, shift: float = 0.0, points: int | None = None):
        super().__init__(points=points)
        self.shift = shift

    def score(self, synsets, settings, seeds):
        time.sleep(float(os.environ.get("TOY_SCORE_SECONDS", "0")))
        make_immutable_after_a_result(os.environ.get("TOY_IMMUTABLE"))
        values = [1000 * (float(synset.actions.mean()) + self.shift) for synset in synsets]
        return [
            SeedScore(seed, "default", [[value]], float(normalized_return(TASK, value)))
            for seed, value in zip(seeds, values, strict=True)
        ]


class Student(DBC):
    """DBC that leaves a trace of every loss it computes, so that tests can count them."""

    uses_teacher = False

    def __init__(self, *, pause: float = 0.0):
        self.pause = pause

    def loss(self, actions, batch):
        time.sleep(self.pause)
        trace = os.environ.get("TOY_TRACE")
        if trace:
            with open(trace, "a+") as file:
                file.write("loss\n")
                file.seek(0)
                if len(file.readlines()) == int(os.environ.get("TOY_KILL_AT", "0")):
                    raise KeyboardInterrupt  # no handler of the product may swallow it
        return super().loss(actions, batch)


register_objective("student", Student)


@register_objective("raises")
class Raises(DBC):
    """It raises."""

    uses_teacher = False

    def loss(self, actions, batch):
        raise ZeroDivisionError("the reason of it\nwith more lines")


@register_objective("memory")
class Memory(DBC):
    """It runs out of memory."""

    uses_teacher = False

    def loss(self, actions, batch):
        raise MemoryError


@register_objective("hoards")
class Hoards(DBC):
    """It asks torch for more memory than its process may have."""

    uses_teacher = False

    def loss(self, actions, batch):
        import resource

        before = resource.getrlimit(resource.RLIMIT_AS)
        address_space = int(Path("/proc/self/statm").read_text().split()[0])
        limit = address_space * resource.getpagesize() + 2**28
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        try:
            return actions.new_ones(2**32).sum() + super().loss(actions, batch)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)


@register_objective("diverges")
class Diverges(DBC):
    """Its loss is not a number."""

    uses_teacher = False

    def loss(self, actions, batch):
        return super().loss(actions, batch) * float("nan")


@register_objective("sleeps")
class Sleeps(DBC):
    """It takes for ever."""

    uses_teacher = False

    def loss(self, actions, batch):
        time.sleep(3600)


@register_objective("dies")
class Dies(DBC):
    """Its process is killed; once only where ``once`` names a file."""

    uses_teacher = False

    def __init__(self, *, once: str = ""):
        self.once = once

    def loss(self, actions, batch):
        if not self.once or not Path(self.once).exists():
            if self.once:
                Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(actions, batch)
