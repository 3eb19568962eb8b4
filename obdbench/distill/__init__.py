"""Distillation: the meta-gradient, the outer loop, and what comes out of it.

``obdbench.distill`` is this package and, by its public name, also the function
:func:`obdbench.distill.api.distill`: calling the package calls the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from obdbench.distill.api import distill

        return distill(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
