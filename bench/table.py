"""A result as tables: in the terminal, and as Markdown between the markers of docs/performance.md.

Run:   python -m bench.table RESULT.json             prints the Markdown
       python -m bench.table RESULT.json --write     puts it into docs/performance.md
       python -m bench.table RESULT.json --before OLD.json     prints both figures of each row
Laws:  1. Nothing between the markers is written by hand. 2. A row without a figure stands in the table and says why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import result
from bench.stats import spread

DOCUMENT = result.ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench: begin (python -m bench.table) -->", "<!-- bench: end -->"
QUIET_SHARE = 0.05
_WORDS = {
    "goal": "goal met",
    "first": "within budget",
    "missed": "**missed**",
    "not judged": "not judged",
    None: "no figure",
}


def number(value: float) -> str:
    """Three digits that matter, no more than two places."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def cost_lines(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """Gateway, what, microseconds with their range, user, system, times nginx plain; cheapest chain first."""
    costs = content.get("costs", [])
    total = {
        (one["gateway"], one["what"]): [made["user_us"] + made["system_us"] for made in one["rounds"]] for one in costs
    }
    base = total.get(("nginx", "plain proxy"))
    lines: list[tuple[str, ...]] = []
    for one in sorted(costs, key=lambda one: (one["what"], spread(total[one["gateway"], one["what"]]).median)):
        mine = total[one["gateway"], one["what"]]
        whole = spread(mine)
        user = spread([made["user_us"] for made in one["rounds"]]).median
        system = spread([made["system_us"] for made in one["rounds"]]).median
        beside = spread([a / b for a, b in zip(mine, base, strict=True)]).median if base else None
        lines.append((
            one["what"], one["gateway"], number(whole.median), f"{number(whole.low)}–{number(whole.high)}",
            number(user), number(system), number(beside) if beside is not None else "",
        ))  # fmt: skip
    return lines


def row_lines(content: dict[str, Any]) -> list[tuple[str, ...]]:
    """What, figure, range, budget, goal, verdict, note."""
    lines: list[tuple[str, ...]] = []
    for row in content["rows"]:
        value, unit = row["value"], row["unit"]
        sign = "≥" if row["at_least"] else "≤"
        goal = f"{sign} {row['goal']:g} {unit}" if row["goal"] is not None else ""
        figure = f"{number(value['median'])} {unit}" if value else "—"
        reach = f"{number(value['low'])}–{number(value['high'])}" if value and value["rounds"] > 1 else ""
        budget = f"{sign} {row['first']:g} {unit}"
        lines.append((row["text"], figure, reach, budget, goal, _WORDS[row["verdict"]], row["note"]))
    return lines


def others(content: dict[str, Any]) -> str:
    """Say how quiet the machine was."""
    share = content["method"]["by_others"]
    return f"other work took {share:.0%} of the cores" + (", so this run proves little" if share > QUIET_SHARE else "")


def markdown(content: dict[str, Any]) -> str:
    """Give everything that stands between the markers."""
    machine, method = content["machine"], content["method"]
    changed = " with uncommitted changes" if content["changed"] else ""
    run = (
        f"Run of {content['at'][:16].replace('T', ' ')} UTC at {content['commit']}{changed}: {machine['cores']} cores"
        f" ({machine['cpu'] or machine['machine']}), Linux {machine['kernel']}, Python {machine['python']};"
        f" {method['rounds']} rounds of {method['seconds']:g} s, origin {method['origin']}; {others(content)}."
        f" Beside us: {', '.join(f'{name} {version}' for name, version in content['versions'].items())}."
    )
    parts = [
        run,
        grid(("what", "figure", "range", "budget", "goal", "", "note"), row_lines(content)),
    ]
    if content.get("costs"):
        head = ("chain", "gateway", "µs per request", "range", "user", "system", "× nginx plain")
        parts.append(grid(head, cost_lines(content)))
    if content.get("latency"):
        parts.append(_latency(content["latency"]))
    if content["absent"]:
        parts.append("Absent:\n\n" + "\n".join(f"- {line}" for line in content["absent"]))
    return "\n\n".join(parts)


def _latency(latency: dict[str, Any]) -> str:
    rounds = latency["rounds"]
    lines = []
    for who in rounds[0]:
        names = ("p50_us", "p90_us", "p99_us", "max_us", "sender_p99_us")
        lines.append((who, *(number(spread([one[who][name] for one in rounds]).median) for name in names)))
    head = ("latency in µs", "p50", "p90", "p99", "highest", "generator late, p99")
    return f"At {latency['requests_per_s']:.0f} requests a second, constant:\n\n{grid(head, lines)}"


def grid(head: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    """Lay out a Markdown table."""
    rows = [head, tuple("---" for _ in head), *lines]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    )


def written(document: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """Put text between the markers. Raises ValueError when there is not exactly one pair."""
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise ValueError("the document has not exactly one pair of markers")
    before, _, rest = document.partition(begin)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def terminal(content: dict[str, Any]) -> str:
    """The same for eyes that see no Markdown."""
    parts = []
    for what, gateway, total, reach, user, system, beside in cost_lines(content):
        parts.append(
            f"{what:<28}{gateway:<13}{total:>7} us {reach:>15} {user:>7} user {system:>7} system"
            + (f"{beside:>7} x nginx plain" if beside else "")
        )
    if parts:
        parts.append("")
    for text, figure, reach, budget, goal, word, note in row_lines(content):
        parts.append(f"{text:<66}{figure:>10} {reach:>13}  {budget:>10} {goal:>10}  {word.strip('*')}")
        if note:
            parts.append(f"    {note}")
    parts += [f"absent: {line}" for line in content["absent"]]
    parts.append(others(content))
    return "\n".join(parts)


def compared(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Set two results beside each other. Rows are ratios to peers of the same run, so two runs may be compared."""
    old = {row["id"]: row["value"] for row in before["rows"]}
    parts = [f"before: {before['commit']}, {others(before)}; after: {after['commit']}, {others(after)}"]
    for row in after["rows"]:
        was, now = old.get(row["id"]), row["value"]
        if not was or not now:
            continue
        change = now["median"] / was["median"] - 1 if was["median"] else 0.0
        apart = now["low"] > was["high"] or now["high"] < was["low"]
        parts.append(
            f"{row['text']:<66}{number(was['median']):>8} → {number(now['median']):>8} {row['unit']:<4}{change:>+7.0%}"
            + ("" if apart else "   the rounds overlap")
        )
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.table", description="A result as Markdown.")
    parser.add_argument("result", type=Path)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}, between its markers")
    parser.add_argument("--before", type=Path, metavar="RESULT", help="an older result to compare with")
    options = parser.parse_args()
    try:
        content = result.load(options.result)
        if options.before:
            print(compared(result.load(options.before), content))
            return 0
        text = markdown(content)
        if options.write:
            DOCUMENT.write_text(written(DOCUMENT.read_text("utf-8"), text), "utf-8")
        else:
            print(text)
    except (OSError, ValueError) as error:
        print(f"table: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
