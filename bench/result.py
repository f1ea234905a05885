"""A run as it is kept: JSON with a version, so that an old result is never read as a new one.

In:    rows, what they were made of, how they were made.
Out:   bench/results/<date>-<commit>.json.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.peers import versions
from bench.rows import Plan, Row

SCHEMA = 2
ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_name("results")


def build(plan: Plan, rows: Sequence[Row], took_s: float, by_others: float) -> dict[str, Any]:
    """Give the whole result as plain values. `by_others`: the share of all cores that was not our processes'."""
    return {
        "schema": SCHEMA,
        "at": dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": machine(),
        "versions": versions(),
        "method": {
            "seconds": plan.seconds, "rounds": plan.rounds, "connections": 64, "origin": plan.lab.origin_kind,
            "gateways": plan.gateways, "took_s": round(took_s), "by_others": round(by_others, 3),
        },
        "rows": [row_values(row) for row in rows],
        "absent": plan.absent,
        **plan.evidence,
    }  # fmt: skip


def commit() -> str:
    return _git("rev-parse", "--short", "HEAD") or "unknown"


def row_values(row: Row) -> dict[str, Any]:
    budget = row.budget
    return {
        "id": budget.id, "text": budget.text, "unit": budget.unit, "first": budget.first, "goal": budget.goal,
        "at_least": budget.at_least, "value": asdict(row.value) if row.value else None, "verdict": row.word,
        "note": row.note,
    }  # fmt: skip


def machine() -> dict[str, Any]:
    model = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
    kernel = ".".join(platform.release().split(".")[:2])
    return {
        "cores": len(os.sched_getaffinity(0)), "cpu": model, "memory_mib": memory_mib, "kernel": kernel,
        "machine": platform.machine(), "python": platform.python_version(),
    }  # fmt: skip


def save(content: dict[str, Any], path: Path | None) -> Path:
    """Write it, to bench/results unless told where."""
    if path is None:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{content['at'][:10]}-{content['commit']}.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load(path: Path) -> dict[str, Any]:
    """Raises ValueError for a result of another schema."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema {content.get('schema')} is not {SCHEMA}")
    return content


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:
        return ""
    return done.stdout.strip()
