"""Where the worker's time goes under the full chain, as a flame graph.

Run:   make bench-flame      (or: python -m bench.flame [--seconds 15] [--out docs/flame-full-chain.svg])
In:    py-spy (a wheel of requirements-bench.lock), which reads the worker's stacks from outside, 200 times a second.
Out:   an SVG below 300 kB; the shares of the rooms between the markers of docs/performance.md; on standard output the
       functions that lead, by their own time.
Laws:  1. Only moments in which the worker is on a core count: one that waits is not what we look for. 2. The kernel's
       share is not drawn apart: a system call shows as the Python line that made it. 3. The worker is not stopped for
       a sample: where it can be stopped, at the end of a system call, would seem to be where it always is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from bench import table
from bench.budgets import FULL
from bench.closedloop import load
from bench.lab import Absent, BenchError, Lab, verify, wheel_program
from bench.peers import edge
from bench.result import ROOT

DRAWING = ROOT / "docs" / "flame-full-chain.svg"
_SAMPLES_PER_S = 200
_BYTES_MAX = 300_000
_SMALLEST = 0.001
"""Frames below this share of all samples are not drawn."""
_WIDTH, _ROW, _CHAR = 1_400, 17, 6.6
_COLOURS = {"edge/net": "#f2a65a", "edge/http": "#8ecae6", "edge/phases": "#95d5b2", "edge/telemetry": "#e5989b",
            "edge/store": "#cdb4db", "edge": "#f9dc8c"}  # fmt: skip
_OTHER = "#d5d5d5"
_SYSTEM_CALLS = {"Wire.send": "writes", "Wire.recv": "reads"}
_BEGIN, _END = "<!-- flame: begin (python -m bench.flame) -->", "<!-- flame: end -->"


@dataclass
class Frame:
    """A function where it was called from; `samples` counts it and all it called."""

    name: str
    samples: int = 0
    callees: dict[str, Frame] = field(default_factory=dict)


def main_thread(raw: str) -> dict[tuple[str, ...], int]:
    """Read py-spy's raw format, one stack a line; keep the thread that serves, without its own frame: what gevent's
    pool threads wait for is taken for work by mistake.
    """
    threads: dict[str, dict[tuple[str, ...], int]] = {}
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = tuple(stack.split(";"))
        own = threads.setdefault(frames[0], {})
        own[frames[1:]] = own.get(frames[1:], 0) + int(count)
    if not threads:
        raise BenchError("py-spy saw nothing")
    return max(threads.values(), key=lambda own: sum(own.values()))


def tree(stacks: dict[tuple[str, ...], int]) -> Frame:
    root = Frame("all")
    for stack, count in stacks.items():
        root.samples += count
        at = root
        for name in stack:
            at = at.callees.setdefault(name, Frame(name))
            at.samples += count
    return root


def own_time(stacks: dict[tuple[str, ...], int]) -> list[tuple[str, float]]:
    """Give functions by the share of samples in which they were the innermost, greatest first."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[stack[-1] if stack else "?"] += count
    total = sum(found.values())
    return [(name, count / total) for name, count in found.most_common()]


def rooms(stacks: dict[tuple[str, ...], int]) -> list[tuple[str, float]]:
    """Give the shares of own time by what a function belongs to, greatest first. Reading and writing sockets, where the
    kernel works, stand apart from the rest of the network's code.
    """
    found: dict[str, float] = {}
    for name, share in own_time(stacks):
        room = next((room for room in _COLOURS if f"({room}/" in name), "gevent and the standard library")
        function = name.partition(" ")[0]
        if function in _SYSTEM_CALLS:
            room = f"{room}: {_SYSTEM_CALLS[function]}"
        found[room] = found.get(room, 0.0) + share
    return sorted(found.items(), key=lambda item: -item[1])


def markdown(stacks: dict[tuple[str, ...], int]) -> str:
    lines = [(room, f"{share:.0%}") for room, share in rooms(stacks)]
    leading = [(name, f"{share:.1%}") for name, share in own_time(stacks)[:12]]
    return table.grid(("own time", "share"), lines) + "\n\n" + table.grid(("function", "share"), leading)


def svg(root: Frame, title: str) -> str:
    """Draw it with the roots on top. No script: what a frame is stands in its tooltip."""
    shapes: list[str] = []
    depth = _draw(root, root, 0.0, 0, shapes)
    height = (depth + 2) * _ROW + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="monospace" font-size="11">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/><text x="4" y="13">{escape(title)}</text>'
    )
    return head + "\n" + "\n".join(shapes) + "\n</svg>\n"


def _draw(frame: Frame, root: Frame, left: float, level: int, shapes: list[str]) -> int:
    """Add a frame and its callees; gives the deepest level that was drawn."""
    width = _WIDTH * frame.samples / root.samples
    top = (level + 1) * _ROW + 4
    label = frame.name[: int(width / _CHAR)] if width > 4 * _CHAR else ""
    shapes.append(
        f"<g><title>{escape(frame.name)}: {frame.samples / root.samples:.1%}</title>"
        f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_ROW - 1}"'
        f' fill="{_colour(frame.name)}" stroke="#fff" stroke-width=".5"/>'
        + (f'<text x="{left + 2:.1f}" y="{top + 12}">{escape(label)}</text>' if label else "")
        + "</g>"
    )
    deepest = level
    for callee in sorted(frame.callees.values(), key=lambda one: one.name):
        if callee.samples >= root.samples * _SMALLEST:
            deepest = max(deepest, _draw(callee, root, left, level + 1, shapes))
        left += _WIDTH * callee.samples / root.samples
    return deepest


def _colour(name: str) -> str:
    return next((colour for room, colour in _COLOURS.items() if f"({room}/" in name), _OTHER)


def record(seconds: int, rate: int = _SAMPLES_PER_S) -> str:
    """Load a worker with the full chain and give its sampled stacks, one a line: frames by semicolons, then how often.

    Raises Absent, BenchError.
    """
    py_spy = wheel_program("py-spy", "py-spy")
    with Lab() as lab:
        edge.publish_tenants(lab)
        host = edge.launch(lab)
        ask = next(one for one in edge.asks(lab, host) if one.what == FULL)
        verify(ask)
        load(ask, 1)
        stacks = lab.folder / "stacks.txt"
        driving = threading.Thread(target=load, args=(ask, seconds + 2))
        driving.start()
        try:
            argv = [
                py_spy, "record", "--pid", str(host.workers()[0]), "--duration", str(seconds), "--rate", str(rate),
                "--format", "raw", "--function", "--threads", "--nonblocking", "--output", str(stacks),
            ]  # fmt: skip
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds + 30)
        finally:
            driving.join()
        if done.returncode or not stacks.exists():
            raise BenchError(f"py-spy: {(done.stderr or done.stdout)[-600:]}")
        return stacks.read_text("utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench.flame", description="A flame graph of the worker under the full chain."
    )
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=DRAWING)
    options = parser.parse_args()
    try:
        stacks = main_thread(record(options.seconds))
    except (Absent, BenchError) as error:
        print(f"flame: {error}", file=sys.stderr)
        return 1
    root = tree(stacks)
    drawn = svg(
        root, f"The worker under the full chain: {root.samples} samples, widths are shares of its time on a core"
    )
    if len(drawn) > _BYTES_MAX:
        print(f"flame: {len(drawn)} bytes are too many; raise _SMALLEST", file=sys.stderr)
        return 1
    options.out.write_text(drawn, "utf-8")
    if options.out == DRAWING:
        document = table.DOCUMENT.read_text("utf-8")
        table.DOCUMENT.write_text(table.written(document, markdown(stacks), _BEGIN, _END), "utf-8")
    print(f"{options.out}: {len(drawn)} bytes")
    for name, share in own_time(stacks)[:25]:
        print(f"{share:>7.1%}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
