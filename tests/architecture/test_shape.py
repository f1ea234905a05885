"""The shape is part of the product: what reviewers would otherwise have to remember."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("contracts", "edge", "webapp", "worker", "devstack", "bench")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
REASON = re.compile(r"longer than \d+ lines because", re.IGNORECASE)
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "data", "info"}

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_is_over_400_lines_without_a_written_reason(path):
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX or REASON.search(text)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_function_is_over_50_lines_without_a_written_reason(path):
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = ast.get_source_segment(text, node) or ""
            assert body.count("\n") + 1 <= FUNCTION_LINES_MAX or REASON.search(body), node.name


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_opens_with_what_it_decides(path):
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text))


def test_no_module_has_a_name_that_says_nothing():
    assert [name_of(path) for path in SOURCES if path.stem in BANNED_NAMES] == []


def test_only_the_edge_s_main_monkey_patches():
    found = [name_of(path) for path in SOURCES if re.search(r"\bpatch_all\(", path.read_text())]
    assert found == ["edge/__main__.py"]


PURE = [
    "contracts/*.py",
    "edge/http/*.py",
    "edge/phases/*.py",
    "edge/breaker.py",
    "edge/errors.py",
    "edge/introspection.py",
    "edge/snapshot.py",
    "edge/issuers.py",
    "edge/pipeline.py",
    "edge/explain.py",
    "worker/probes.py",
]
WITHOUT_TWIN = {
    "contracts/bounds.py": "constants",
    "contracts/tasks.py": "constants, tested with the keyspace",
}


def test_every_pure_module_has_its_twin():
    missing = []
    for pattern in PURE:
        for path in sorted(ROOT.glob(pattern)):
            twin = ROOT / "tests" / path.relative_to(ROOT).parent / f"test_{path.stem}.py"
            if path.name != "__init__.py" and name_of(path) not in WITHOUT_TWIN and not twin.exists():
                missing.append(name_of(path))
    assert missing == []


def test_every_listed_exception_is_still_needed():
    for name in WITHOUT_TWIN:
        path = Path(name)
        assert (ROOT / path).exists()
        assert not (ROOT / "tests" / path.parent / f"test_{path.stem}.py").exists()


@pytest.mark.parametrize(
    "name", ["requirements.lock", "requirements-dev.lock", "requirements-bench.lock", "requirements-fuzz.lock"]
)
def test_lock_files_pin_with_hashes_and_name_no_index(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*(?:\[[^]]*\])?)(.*)$", text, re.MULTILINE)
    assert pins
    for package, rest in pins:
        assert rest.startswith("=="), package
    assert text.count("--hash=sha256:") >= len(pins)


def test_every_setting_is_in_the_example_with_its_default():
    documented = set(re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = set()
    for path in (ROOT / "edge/settings.py", ROOT / "webapp/settings.py", ROOT / "worker/settings.py"):
        if path.exists():
            used |= set(re.findall(r"\"([A-Z][A-Z0-9]*_[A-Z0-9_]+|PORT)\"", path.read_text()))
    assert used - documented == set()
    for path in ("Procfile", "devstack/environment.py", "docker-compose.yml"):
        used |= set(re.findall(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+|PORT", (ROOT / path).read_text()))
    assert documented - used == set()
