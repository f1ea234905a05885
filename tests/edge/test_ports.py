"""What the pure half asks of the world (edge.ports)."""

import ast
from pathlib import Path

import pytest

from edge import ports

PROTOCOLS = [
    name
    for name, value in vars(ports).items()
    if getattr(value, "_is_protocol", False) and value.__module__ == ports.__name__
]


def test_ports_holds_one_of_each():
    assert {type_name.lower() for type_name in PROTOCOLS} == {
        "clock", "identifiers", "configview", "keystore", "sessionkeys", "counters", "cache", "healthview", "upstream",
        "recorder", "issuerkeys", "tokencheck", "identitysigner", "secrets", "nonces",
    }  # fmt: skip
    assert len(ports.Ports.__dataclass_fields__) == len(PROTOCOLS)


@pytest.mark.parametrize(
    "name", ["ConfigView", "KeyStore", "TokenCheck", "Nonces", "Counters", "Cache", "HealthView", "Recorder"]
)
def test_a_port_over_redis_says_what_redis_being_away_means(name):
    assert getattr(ports, name).__doc__.startswith("Redis away")


FORBIDDEN = frozenset("""gevent redis socket ssl select threading subprocess os time random datetime logging""".split())
ROOT = Path(ports.__file__).parent
PURE = [*ROOT.glob("phases/**/*.py"), *ROOT.glob("http/*.py")] + [
    ROOT / f"{name}.py"
    for name in "explain pipeline exchange ports snapshot introspection issuers breaker errors".split()
]


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.stem)
def test_time_chance_stores_and_sockets_reach_a_decision_only_through_ports(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported & FORBIDDEN == set()
