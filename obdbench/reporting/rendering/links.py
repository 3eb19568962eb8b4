"""Links between generated files."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def relative_link(page_folder: Path, target: Path) -> str:
    """The relative link from the folder of a page to another folder, with a final slash."""
    path = os.path.relpath(target.resolve(), page_folder.resolve()).replace(os.sep, "/")
    return "" if path == "." else f"{quote(path)}/"
