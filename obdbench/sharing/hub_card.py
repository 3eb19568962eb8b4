"""README files of Hub repositories: what a synset or the results of a suite are."""

from __future__ import annotations

import json
from pathlib import Path

from obdbench.distillation.synset import Synset
from obdbench.errors import strip_control_characters
from obdbench.reporting.grids.suite_results import read_suite_results
from obdbench.reporting.rendering.markdown import render_table
from obdbench.reporting.tables.suite_report import PROTOCOL_BLOCKS, build_report

MAX_VALUE = 200  # characters of a value in the table
FRONT_MATTER = """---
tags:
- obdbench
- offline-reinforcement-learning
- behavior-distillation
---
"""


def describe_synset(synset: Synset, file_name: str, repository: str) -> str:
    """The README of a repository with one synset."""
    environment = synset.task.env_id
    facts = {
        "task": synset.task.name,
        "environment": environment,
        "pairs": len(synset),
        "observation size": synset.task.observation_size,
        "action size": synset.task.action_size,
        **synset.card,
    }
    rows = [f"| {_table_text(name)} | {_table_text(value)} |" for name, value in facts.items()]
    table = "\n".join(["| field | value |", "| :-- | :-- |", *rows])
    return f"""{FRONT_MATTER}# Synset for {environment}

{len(synset)} distilled (state, action) pairs for cloning a policy that acts in {environment}.

{table}

## Use

```bash
obdbench hub pull {repository} --to pairs
```

```python
import obdbench

synset = obdbench.Synset.load("pairs/{file_name}")
print(obdbench.evaluate(synset).normalized_return)
```

Actions can lie outside −1 and 1: they are targets of cloning and not actions of the environment.
"""


def describe_results(folder: Path, repository: str) -> str:
    """The README of a repository with the results of one suite."""
    report = build_report(read_suite_results(folder, strict=True))
    tables = "\n\n".join(
        f"## {table.title}\n\n{render_table(table)}"
        for block in ("main", *PROTOCOL_BLOCKS)
        for table in report.tables[block]
    )
    return f"""{FRONT_MATTER}# Results of the suite {_table_text(report.suite)}

Scores are returns, normalized as in D4RL: 0 is a random policy, 100 an expert.

{tables}

## Use

```bash
obdbench hub pull {repository} --to results
obdbench leaderboard --out results --to leaderboards
```
"""


def _table_text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = strip_control_characters(text)[:MAX_VALUE]
    return "".join(f"\\{char}" if char in "\\|<>[]`*_" else char for char in text)
