"""Coverage-guided fuzzing of HTTP parser and signatures: `make fuzz`, `FUZZ_RUNS=30000 make fuzz`, one target by name.

In:    FUZZ_RUNS (default 1000000), inputs over all targets together; a target's name as the argument; or
       `--replay TARGET FILE` to see one input fail again.
Out:   status 0 when no input crashed or disagreed without a reason. A failing input's octets are printed, with how to
       replay it; it stays under .devstack/fuzz, as do the inputs that reached something new.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".devstack" / "fuzz"
INPUT_BYTES_MAX = 2_048
INPUT_TIMEOUT_S = 20


def fuzz(target: str) -> None:
    """Run in a process of its own: libFuzzer ends it.

    What is under test is instrumented, and h11: our patterns hide branches that its state machine shows. So both are
    imported here for the first time.
    """
    import atheris

    assert not {"edge.http", "h11"} & set(sys.modules)
    with atheris.instrument_imports(include=["edge.http", "h11"]):
        from tests.fuzz import targets
    atheris.Setup([sys.argv[0], *sys.argv[3:]], targets.TARGETS[target])
    atheris.Fuzz()


def run(target: str, runs: int) -> bool:
    """Fuzz one target; True when nothing was found."""
    from tests.fuzz.targets import WORDS, seeds

    inputs, finds, start = WORK / target, WORK / f"{target}-finds", WORK / f"{target}-seeds"
    for folder in (inputs, finds, start):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (start / f"{number:04}").write_bytes(seed)
    words = WORK / "words"
    words.write_text("".join('"' + "".join(f"\\x{octet:02x}" for octet in word) + '"\n' for word in WORDS))
    before = set(finds.iterdir())
    print(f"fuzz: {target}, {runs} inputs", flush=True)
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.fuzz", "--one", target, f"-runs={runs}", f"-max_len={INPUT_BYTES_MAX}",
            f"-timeout={INPUT_TIMEOUT_S}", f"-dict={words}", f"-artifact_prefix={finds}/", "-print_final_stats=1",
            "-keep_seed=1", "-verbosity=0", str(inputs), str(start),
        ],
        cwd=ROOT, check=False,
    )  # fmt: skip
    for path in sorted(set(finds.iterdir()) - before):
        print(f"fuzz: {target} failed for {path.read_bytes()!r}")
        print(
            f"fuzz: again with  {sys.executable} -m tests.fuzz --replay {target} {path.relative_to(ROOT)}", flush=True
        )
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        fuzz(arguments[1])
        return 0
    from tests.fuzz.targets import TARGETS

    if arguments[:1] == ["--replay"]:
        TARGETS[arguments[1]](Path(arguments[2]).read_bytes())
        print("fuzz: nothing fails")
        return 0
    targets = arguments or list(TARGETS)
    runs = -(-int(os.environ.get("FUZZ_RUNS") or 1_000_000) // len(targets))
    results = [run(target, runs) for target in targets]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
