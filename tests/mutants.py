"""Plant faults in modules and count those that their tests notice: `make mutants ROOM=diffusion`.

ROOM is a package, a module or several, such as `diffusion`, `train/loss` or `geometry files`.
mutmut plants the faults in a copy of the project under build/mutants, and runs the tests that
mirror ROOM: `gridctl/train/loss.py` has `tests/train/test_loss.py`, a package its whole folder.
Faults that survive are printed as diffs. Those that only reword prose (a message, a help text)
are counted apart: tests need not hold each word.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPY = ROOT / "build" / "mutants"
CONFIG = """
[tool.mutmut]
source_paths = ["gridctl"]
only_mutate = {sources}
process_isolation = "forkserver"
timeout_constant = 30.0
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist"]
pytest_add_cli_args_test_selection = {tests}
also_copy = {rest}
"""


def mirrored(room: str) -> tuple[list[str], list[str]]:
    """The source patterns of a room, and the tests that stand where it stands."""
    source, tests = ROOT / "gridctl" / room, ROOT / "tests" / room
    if source.is_dir():
        return [f"gridctl/{room}/*"], [f"tests/{room}"]
    stem = tests.name
    found = sorted(tests.parent.glob(f"test_{stem}.py")) + sorted(
        tests.parent.glob(f"test_{stem}_*.py")
    )
    if not source.with_suffix(".py").is_file() or not found:
        sys.exit(f"{room} is not a package or module of gridctl with tests of its own.")
    return [f"gridctl/{room}.py"], [str(path.relative_to(ROOT)) for path in found]


def copy_project(rooms: list[str]) -> None:
    """The files that git knows, with mutmut's settings for these rooms."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    pairs = [mirrored(room) for room in rooms]
    rest = sorted({path.name for path in COPY.iterdir()} - {"gridctl", "tests", "pyproject.toml"})
    settings = CONFIG.format(
        sources=[source for sources, _ in pairs for source in sources],
        tests=[test for _, tests in pairs for test in tests],
        rest=rest,
    )
    with (COPY / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(settings)


def rewords_prose(diff: str) -> bool:
    """Whether the fault changes nothing but texts with a space in them."""
    lines = [line[1:] for line in diff.splitlines() if re.match(r"[-+](?![-+]{2} )", line)]
    sides = [line.strip() for line in lines]
    if len(sides) != 2:
        return False
    before, after = (list(_tokens(side)) for side in sides)
    changed = [(b, a) for b, a in zip(before, after, strict=False) if b != a]
    return len(before) == len(after) and all(
        "Text" in (b[0], a[0]) and (" " in b[1] or " " in a[1]) for b, a in changed
    )


def _tokens(line: str) -> list[tuple[str, str]]:
    """(kind, text) of a line's tokens; a line may be a part of an expression."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            name = tokenize.tok_name[token.type]
            found.append(("Text" if "STRING" in name else name, token.string))
    except (tokenize.TokenError, IndentationError):
        pass  # an expression that goes on in the next line
    return found


def main(rooms: list[str]) -> None:
    if not rooms:
        sys.exit(__doc__)
    copy_project(rooms)
    mutmut = [sys.executable, "-m", "mutmut"]
    with (COPY / "log.txt").open("w") as log:  # its spinner writes a line every 0.1 seconds
        done = subprocess.run([*mutmut, "run", "--max-children", "2"], cwd=COPY, stdout=log)
    if done.returncode:
        sys.exit(f"mutmut failed; {COPY / 'log.txt'} says why.")
    listed = subprocess.run(
        [*mutmut, "results", "--all", "true"], cwd=COPY, capture_output=True, text=True, check=True
    ).stdout
    outcome = dict(line.strip().split(": ") for line in listed.splitlines() if ": " in line)
    killed = sum(state in ("killed", "timeout") for state in outcome.values())
    left, prose = [], 0
    for name, state in outcome.items():
        if state in ("killed", "timeout"):
            continue
        show = subprocess.run([*mutmut, "show", name], cwd=COPY, capture_output=True, text=True)
        if rewords_prose(show.stdout):
            prose += 1
        else:
            left.append(f"{name}: {state}\n{show.stdout}")
    print("\n".join(left))
    share = 100 * killed / max(1, killed + len(left))
    print(f"{killed} killed, {len(left)} survived ({share:.0f} % killed), {prose} reword prose.")


if __name__ == "__main__":
    main(sys.argv[1:])
