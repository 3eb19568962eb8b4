"""What a trial costs: outer steps in relative units, and episodes that score it."""

from __future__ import annotations

from obdbench.distillation.solvers.infinite_width import InfiniteWidth
from obdbench.evaluation.ensemble import Ensemble
from obdbench.evaluation.protocol import make_protocol
from obdbench.experiments.spec import TrialSpec
from obdbench.registry import solvers

UNIT_SECONDS = 8.0  # of an exact step in the published results, on a CPU core
EPISODE_SECONDS = 0.15  # of an episode in the published results, on a CPU core


def distillation_cost(spec: TrialSpec) -> float:
    """Return outer steps times their size, in units of about ``UNIT_SECONDS``."""
    settings = spec.settings
    narrow = 1.0 if settings.width is None else min(1.0, settings.width / 256)
    rest = narrow * getattr(solvers.get(settings.solver), "relative_cost", 1.0)
    if settings.solver == "corrected":
        rest = rest / settings.exact_interval + InfiniteWidth.relative_cost
    share = settings.kernel_share
    step = (1 - share) * rest + share * InfiniteWidth.relative_cost
    steps = settings.steps * settings.draws * step if spec.distills else 0
    pairs = settings.pairs * settings.inner_steps
    return len(spec.seeds) * steps * (pairs + settings.batch) / 2e5


def count_points(spec: TrialSpec) -> int:
    """Return the number of evaluation points at which a trial is scored."""
    protocol = make_protocol(spec.protocol, spec.protocol_params)
    return len(protocol.select(spec.settings.evaluation_steps if spec.distills else [0]))


def count_episodes(spec: TrialSpec) -> int:
    """Return the number of episodes that score a trial: all seeds, points and arms."""
    protocol = make_protocol(spec.protocol, spec.protocol_params)
    arms = len(protocol.arms(spec.settings))
    policies = 1 if isinstance(protocol, Ensemble) else protocol.policies
    return count_points(spec) * arms * policies * protocol.episodes * len(spec.seeds)
