"""How each row of the table is measured, one file per group.

In:    a Plan: the lab, how long, how often, which gateways.
Out:   Row values, one for each budget of the group; and, kept in the result, what they were made of.
Laws:  1. A row without a figure says why. 2. Rounds are interleaved: every contender has its turn within a round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.budgets import BUDGETS, Budget
from bench.lab import LOAD_CORE, BenchError, Lab, pinned
from bench.stats import Spread, Word, verdict


@dataclass
class Plan:
    """`gateways`: names of bench.peers. `evidence`: group -> what its rows were made of. `absent`: for the result."""

    seconds: float
    rounds: int
    gateways: tuple[str, ...]
    budgets: tuple[Budget, ...]
    lab: Lab = field(init=False)
    """The lab of the group that runs now."""
    evidence: dict[str, Any] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Row:
    """One line of the table. Without a `value`, `note` says why. `judged` False: it is not what the budget means."""

    budget: Budget
    value: Spread | None
    note: str = ""
    judged: bool = True

    @property
    def word(self) -> Word | None:
        if self.value is None:
            return None
        if not self.judged:
            return "not judged"
        budget = self.budget
        return verdict(self.value.median, budget.first, budget.goal, budget.at_least)


def budget(row_id: str) -> Budget:
    return next(one for one in BUDGETS if one.id == row_id)


def tool(module: str, *arguments: object, timeout_s: float) -> Any:
    """Run a module of ours on the load's core and read the JSON it prints. Raises BenchError."""
    done = subprocess.run(
        [sys.executable, "-m", module, *(str(one) for one in arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        preexec_fn=lambda: os.sched_setaffinity(0, pinned(LOAD_CORE)),
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise BenchError(f"{module}: {(done.stderr or done.stdout)[-600:]}") from None


def absent(group: str, budgets: Sequence[Budget], why: str) -> list[Row]:
    return [Row(one, None, why) for one in budgets if one.group == group]
