"""SECURITY.md promises; each promise names a test, and the test is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| .* \| ([a-z0-9_/]+) \| `(test_[a-z0-9_]+)` \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE
)


def test_the_table_is_read():
    assert len(ROWS) >= 25


def test_every_promise_names_a_test_that_exists():
    missing = [(file, name) for file, name in ROWS if f"def {name}(" not in (ROOT / "tests" / f"{file}.py").read_text()]
    assert missing == []
