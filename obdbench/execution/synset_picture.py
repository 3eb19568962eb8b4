"""A picture of a synset for experiment loggers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from obdbench.datasets.projection import StateProjection
from obdbench.distillation.synset import Synset

Picture = np.ndarray[Any, np.dtype[np.uint8]]


def draw_synset(synset: Synset) -> Picture | None:
    """Distilled states in their two principal components, colored by the first action.

    Returns red, green and blue per pixel; None without matplotlib.
    """
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 4.0), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    first, second = StateProjection.fit(synset.states).apply(synset.states).T
    points = axes.scatter(first, second, c=synset.actions[:, 0], s=14, cmap="cividis")
    figure.colorbar(points, label="first coordinate of the action")
    axes.set(xlabel="principal component 1", ylabel="principal component 2")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
