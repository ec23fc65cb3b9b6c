import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from gridctl.media.record import read_record

Cli = Callable[..., int]


def video(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


PROMPT = "a red circle moving right on a black background"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def t2v(gridctl: Cli, adapter: Path) -> Cli:
    """`gridctl generate t2v` with the small adapter, in one step."""

    def run(*arguments: object) -> int:
        return gridctl("generate", "t2v", "--adapter", adapter, "--steps", 1, *arguments)

    return run


def test_paths_go_to_stdout_and_the_rest_to_stderr(
    t2v: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert t2v(PROMPT, "-o", "new/out.mp4") == 0
    output = capsys.readouterr()
    assert output.out == "new/out.mp4\n"
    choice, *warnings = output.err.splitlines()
    assert "tiny" in choice
    assert warnings  # one step draws no steady clip
    assert all(line.startswith("new/out.mp4: ") for line in warnings)
    assert (here / "new" / "out.mp4").stat().st_size > 0
    assert t2v("a purple zebra", "-o", "z.gif", "--json") == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert (found["written"], found["skipped"]) == (["z.gif"], [])
    assert set(found["checks"]["z.gif"]["flicker"]) == {"value", "limit", "frames", "fails"}
    assert "never learned" in output.err
    assert t2v("a purple zebra", "-o", "y.gif", "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_what_is_there_ends_with_1_and_force_replaces_it(
    t2v: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.gif").write_bytes(b"precious")
    assert t2v(PROMPT, "-o", "a.gif", "--quiet") == 1
    assert (here / "a.gif").read_bytes() == b"precious"
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("gridctl: a.gif exists and was not made by this prompt")
    assert t2v(PROMPT, "-o", "a.gif", "--force") == 0
    assert Image.open("a.gif").n_frames == 6


def test_prompts_from_a_file(t2v: Cli, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "prompts.txt").write_text("\ufeffa red circle\n\n  a blue star  \r\n", "utf-8")
    assert t2v("--prompts", "prompts.txt", "-o", "clips") == 0
    names = ["clips/001-a-red-circle.mp4", "clips/002-a-blue-star.mp4"]
    assert capsys.readouterr().out.splitlines() == names
    assert t2v("--prompts", "prompts.txt", "-o", "clips", "--json") == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == {"written": [], "skipped": names, "checks": {}}
    assert "2 outputs skipped" in output.err


class Stdin:
    """Standard input that gives a chunk of bytes at each read, and calls `on_read` before it."""

    def __init__(self, chunks: list[bytes], on_read: Callable[[], None] = lambda: None) -> None:
        self.buffer = self
        self.chunks, self.on_read = chunks, on_read

    def isatty(self) -> bool:
        return False

    def read1(self, size: int) -> bytes:
        self.on_read()
        return self.chunks.pop(0) if self.chunks else b""


def test_prompts_from_stdin(
    t2v: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is drawn before more is read. A line that fails is reported, and the others go on.

    Wrong lines keep their numbers, so mending one renames no other clip.
    """
    Path("clips").mkdir()
    Path("clips/010-a-heart.mp4").write_bytes(b"somebody else's")
    wrong = [
        b'{"prompt": "a star", "steps": "two"}',
        b"a r\xe4d star",
        b'{"prompt": " "}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "a star", "compile": true}',
        b'{"prompt": "a star", "size": "64x64"}',
    ]
    chunks = [b"a red circle\n\n{bro", b"ken\n" + b"\n".join(wrong)]
    chunks += [b'\n{"prompt": "a blue star", "seed": 4, "steps": 2}\na heart\na cross']
    seen: list[int] = []
    stdin = Stdin(chunks, lambda: seen.append(len(list(Path("clips").glob("*.mp4")))))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert t2v("--prompts", "-", "-o", "clips/") == 3
    names = ["001-a-red-circle.mp4", "009-a-blue-star.mp4", "011-a-cross.mp4"]
    output = capsys.readouterr()
    assert output.out.splitlines() == [f"clips/{name}" for name in names]
    assert seen == [1, 2, 2, 3]
    errors = [line for line in output.err.splitlines() if line.startswith("gridctl: ")]
    for error, words in zip(
        errors,
        [
            "stdin line 3 is not JSON",
            'stdin line 4: steps: "two" is not a whole number',
            "stdin line 5 is not UTF-8",
            "stdin line 6 has no prompt",
            "stdin line 7: the prompt is not UTF-8",
            "stdin line 8: compile: a line has no such key; it may have average_max_sigma, fast",
            "stdin line 9: size: a line has no such key; it may have",
            "stdin line 11: clips/010-a-heart.mp4 exists and was not made by this",
        ],
        strict=True,
    ):
        assert error.startswith(f"gridctl: {words}")
    making = read_record(Path("clips") / names[1])
    assert making is not None
    assert (making["seed"], making["profile"]["generate"]["steps"]) == (4, 2)
    assert t2v("a blue star", "--seed", 4, "--steps", 2, "-o", "alone.mp4") == 0
    alone, streamed = Path("alone.mp4"), Path("clips") / names[1]
    assert np.array_equal(video(alone), video(streamed))


def test_a_stream_with_json_prints_a_line_for_each_output(
    t2v: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []
    chunks = [b'a red circle\n{"prompt": "a star", "fps": 5}\n', b'{"sed": 4}\n', b"a star\n"]
    stdin = Stdin(chunks, lambda: printed.extend(capsys.readouterr().out.splitlines()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert t2v("--prompts", "-", "-o", "clips/", "--json", "--quiet") == 3
    answers = [json.loads(line) for line in printed]
    assert [answer["line"] for answer in answers] == [1, 2, 3, 4]
    assert answers[0]["written"] == ["clips/001-a-red-circle.mp4"]
    assert "seam" in answers[0]["checks"]["clips/001-a-red-circle.mp4"]
    assert "has no prompt" in answers[2]["error"]
    with av.open("clips/002-a-star.mp4") as container:
        assert container.streams.video[0].average_rate == 5
    stdin.chunks = [b"a red circle"]
    assert t2v("--prompts", "-", "-o", "clips/", "--json", "--quiet") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["written"], answer["skipped"]) == ([], ["clips/001-a-red-circle.mp4"])


def test_what_no_line_can_mend_ends_a_stream_before_it_is_read(
    t2v: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin([b"a star\n", b"a heart\n"]))
    for flags in (["--adapter", "nowhere"], ["--fps", "0"], ["-o", "clips.mp4"]):
        assert t2v("--prompts", "-", "-o", "clips/", "--quiet", *flags) != 0
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_empty_stream_and_a_plan_of_one_are_refused(
    t2v: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for nothing in (b"", b"\n \n"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(nothing)))
        assert t2v("--prompts", "-", "-o", "clips/", "--quiet") == 1
        assert "stdin has no prompt" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", None)  # gridctl … <&-
    assert t2v("--prompts", "-", "-o", "clips/", "--quiet") == 2
    assert "stdin is closed" in capsys.readouterr().err
    assert t2v("--prompts", "-", "-o", "clips/", "--quiet", "--dry-run") == 2
    assert "use a file to see its plan first" in capsys.readouterr().err


def test_lines_with_settings_of_their_own(
    t2v: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ['{"prompt": "a star"}', '{"prompt": "a star", "steps": 2}', '{"prompt": "a heart"}']
    (here / "prompts.jsonl").write_text("\n".join(lines))
    assert t2v("--prompts", "prompts.jsonl", "-o", "clips", "--quiet") == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name[:5] for path in paths] == ["001-a", "002-a", "003-a"]
    makings = [read_record(path) or {} for path in paths]
    assert [making["seed"] for making in makings] == [0, 1, 2]
    assert [making["profile"]["generate"]["steps"] for making in makings] == [1, 2, 1]


def test_a_preview_is_a_picture_of_the_plan_and_loads_nothing(
    gridctl: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 64), (250, 10, 10)).save("red.png")
    command = ["generate", "i2v", "red.png", PROMPT, "--last", "red.png"]
    assert gridctl(*command, "--preview", "plan.png") == 0
    assert capsys.readouterr().out == "plan.png\n"
    plan = np.asarray(Image.open("plan.png").convert("RGB")).astype(int)
    red = np.abs(plan - (250, 10, 10)).max(-1) < 8
    rows, cols = np.nonzero(red)
    assert (rows.max() - rows.min()) > plan.shape[0] / 2  # the first cell and the last
    assert (cols.max() - cols.min()) > plan.shape[1] / 2
    assert {path.name for path in here.iterdir()} == {"plan.png", "red.png"}
    assert gridctl(*command, "--preview", "plan.png") == 1
    assert gridctl(*command, "--preview", "plan.gif") == 2
    assert "a preview is written as .jpg" in capsys.readouterr().err


def test_prompts_with_seeds_of_their_own_and_several_of_each(
    t2v: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ['{"prompt": "a red circle", "seed": 70}', '{"prompt": "a blue star"}']
    (here / "prompts.jsonl").write_text("\n".join(lines))
    flags = ["--prompts", "prompts.jsonl", "-o", "clips", "--num", 2, "--seed", 5, "--dry-run"]
    assert t2v(*flags) == 0
    outputs = [line for line in capsys.readouterr().out.splitlines() if "output" in line]
    assert outputs == [
        "output   clips/001-a-red-circle.mp4 (seed 70)",
        "output   clips/002-a-red-circle.mp4 (seed 71)",
        "output   clips/003-a-blue-star.mp4 (seed 7)",
        "output   clips/004-a-blue-star.mp4 (seed 8)",
    ]
    assert t2v("a red circle", "--num", 2, "-o", "two") == 0
    assert len(list((here / "two").iterdir())) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{broken", "line 2 is not JSON"),
        ('{"text": "a star"}', "line 2 has no prompt"),
        (
            '{"prompt": "a star", "sed": 1}',
            "line 2: sed: a line has no such key; did you mean seed?",
        ),
        ('{"prompt": "a star", "seed": -1}', "line 2: seed: -1 is out of range; the least is 0."),
        ('{"prompt": "a star", "steps": "two"}', 'line 2: steps: "two" is not a whole number'),
        (
            '{"prompt": "a star", "attention": "math"}',
            "line 2: attention: a line has no such key; it may have average_max_sigma, fast",
        ),
        (
            '{"prompt": "a star", "compile": true}',
            "line 2: compile: a line has no such key; it may have",
        ),
    ],
)
def test_a_wrong_line_of_prompts_is_named(
    t2v: Cli, here: Path, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "prompts.txt").write_text(f"a red circle\n{line}\n")
    assert t2v("--prompts", "prompts.txt", "-o", "clips", "--quiet") == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert words in errors[0]


def test_a_line_has_the_keys_that_do_something_in_its_task(
    gridctl: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "prompts.jsonl").write_text('{"prompt": "a star", "size": "32x32", "fps": 3}')
    for task, wrong in (("image", "fps"), ("t2v", "size")):
        command = ["generate", task, "--prompts", "prompts.jsonl", "-o", "out", "--dry-run", "-q"]
        assert gridctl(*command) == 1
        assert f"line 1: {wrong}: a line has no such key" in capsys.readouterr().err


def test_all_wrong_lines_of_a_file_are_named_and_nothing_is_drawn(
    t2v: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "prompts.txt").write_text("a red circle\n" + "{broken\n" * 12)
    assert t2v("--prompts", "prompts.txt", "-o", "clips", "--quiet") == 1
    errors = capsys.readouterr().err.splitlines()
    assert [error.split()[2] for error in errors[:-1]] == ["line"] * 10
    assert errors[-1] == "gridctl: 2 more lines of prompts.txt are wrong."
    assert not Path("clips").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "one prompt"),
        ([PROMPT, "--prompts", "prompts.txt"], 2, "one prompt"),
        (["--prompts", "nowhere.txt", "-o", "clips"], 1, "nowhere.txt cannot be read"),
        (["--prompts", "empty.txt", "-o", "clips"], 1, "has no prompt"),
        (["--prompts", "latin.txt", "-o", "clips"], 1, "cannot be read as a text file"),
        (["--prompts", "prompts.txt"], 2, "out.mp4: several outputs need a folder"),
        ([" "], 2, "prompt is empty"),
        (["a red \udce9toile"], 2, "'a red \\udce9toile' is not UTF-8"),
        ([PROMPT, "-o", "a.avi"], 2, "a.avi"),
        ([PROMPT, "-o", "empty.txt/a.mp4"], 1, "empty.txt cannot be written (Not a directory)"),
        ([PROMPT, "--rows", "3"], 2, "leave the grid to the adapter"),
        ([PROMPT, "--cell", "30x30"], 2, "multiple"),
        ([PROMPT, "--long", "frames"], 2, "choose keyframes or windows"),
        ([PROMPT, "--attention", "slow"], 2, "attention"),
        ([PROMPT, "--fps", "0"], 2, "generate.fps: 0.0 is out of range; the least is 0.001"),
        ([PROMPT, "--steps", "0"], 2, "steps"),
        ([PROMPT, "--adapter", "nowhere.safetensors"], 1, "nowhere.safetensors is not an adapter"),
        ([PROMPT, "--adapter", "empty.txt"], 1, "empty.txt is not an adapter"),
        ([PROMPT, "--base", "nowhere", "--adapter", "none"], 2, "nowhere is not a model"),
        ([PROMPT, "--base", "a/b"], 2, "trained on tiny, and the base is a/b"),
        ([PROMPT, "--base", "a/b", "--adapter", "none"], 1, "a/b is not on this machine"),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(
    t2v: Cli,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    (here / "empty.txt").write_text("\n \n")
    (here / "latin.txt").write_bytes(b"B\xe4r\n")
    (here / "prompts.txt").write_text("a star\n")
    before = sorted(here.iterdir())
    assert t2v("--quiet", *arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert output.err.startswith("gridctl: ")
    assert words in output.err
    assert sorted(here.iterdir()) == before


def test_flux_without_an_adapter_draws_no_grid(
    gridctl: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gridctl("generate", "t2v", PROMPT, "--profile", "flux-dev-24gb", "--quiet") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "--adapter" in errors[0]


def test_an_image(gridctl: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--size", "48x32", "--steps", "1", "--seed", "5", "--guidance", "2"]
    assert gridctl("generate", "image", "a blue star", "-o", "star.png", *flags) == 0
    assert capsys.readouterr().out == "star.png\n"
    with Image.open("star.png") as image:
        assert (image.size, image.mode) == ((48, 32), "RGB")


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    t2v: Cli, here: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert t2v(PROMPT, "-o", "a.mp4", "--seed", 9, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "base     tiny",
        f"adapter  {adapter}",
        "grid     2x3 cells of 32x32, row-major:",
        "  0 generate     1 generate     2 generate",
        "  3 generate     4 generate     5 generate",
        f"prompt   2x3 grid of 6 video frames in reading order. {PROMPT}",
        "output   a.mp4 (seed 9)",
    ]
    assert list(here.iterdir()) == []


def test_a_dry_run_says_what_goes_beyond_the_built_in_model(
    t2v: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = "a corgi on a yellow background"
    assert t2v(prompt, "-o", "a.mp4", "--guidance", 7, "--dry-run", "--json") == 0
    out, err = capsys.readouterr()
    (job,) = json.loads(out)["jobs"]
    assert (job["task"], job["rows"], job["cell"]) == ("t2v", 2, [32, 32])
    assert [output["output"] for output in job["outputs"]] == ["a.mp4"]
    for words in ("never learned corgi", "yellow is not a background", "guidance 7 is outside"):
        assert words in err


def test_a_dry_run_loads_no_torch(here: Path, adapter: Path) -> None:
    script = (
        "import sys\n"
        "from gridctl.__main__ import main\n"
        "try:\n    code = main()\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)\n"
    )
    arguments = ["generate", "t2v", PROMPT, "--adapter", str(adapter), "--dry-run"]
    end = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert end.returncode == 0, end.stderr
    assert "2x3 cells of 32x32" in end.stdout


@pytest.fixture
def first(here: Path) -> str:
    Image.new("RGB", (40, 40), "white").save(here / "first.png")
    return "first.png"


@pytest.mark.parametrize(
    "arguments",
    [
        ["i2v", "FIRST", PROMPT, "--last", "FIRST", "--at", "2=FIRST"],
        ["interpolate", "FIRST", "FIRST", "--prompt", PROMPT],
        ["interpolate", "FIRST", "FIRST", "--fit", "pad", "--background", "red"],
        ["multiview", "FIRST", "a pink cube on white"],
        ["multiview", "a pink cube on white"],
        ["edit", "CLIP", PROMPT, "--source-prompt", PROMPT, "--strength", "0.5"],
        ["restore", "CLIP", "--sample", "windows", "--strength", "0.4"],
    ],
)
def test_tasks_that_start_from_pictures(
    gridctl: Cli,
    adapter: Path,
    first: str,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    frames = [Image.new("RGB", (40, 40), (40 * k, 0, 0)) for k in range(6)]
    frames[0].save("clip.gif", save_all=True, append_images=frames[1:])
    names = {"FIRST": first, "CLIP": "clip.gif"}
    arguments = [names.get(argument, argument.replace("FIRST", first)) for argument in arguments]
    model = ["--adapter", adapter, "--steps", 1]
    assert gridctl("generate", *arguments, "-o", "out.webp", *model, "--dry-run") == 0
    assert ("keep" in capsys.readouterr().out) == (first in arguments)
    assert gridctl("generate", *arguments, "-o", "out.webp", *model) == 0
    assert capsys.readouterr().out == "out.webp\n"
    with Image.open("out.webp") as clip:
        assert (clip.n_frames, clip.size) == (6, (32, 32))


@pytest.mark.parametrize("long", ["keyframes", "windows"])
def test_longer_clips(
    t2v: Cli, gridctl: Cli, adapter: Path, long: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert t2v(PROMPT, "--frames", 8, "--long", long, "-o", "long.webp") == 0
    model = ["--adapter", adapter, "--steps", 1, "-o", "longer.webp"]
    assert gridctl("generate", "extend", "long.webp", PROMPT, "--frames", 10, *model) == 0
    for name, count in (("long", 8), ("longer", 10)):
        with Image.open(f"{name}.webp") as clip:
            assert clip.n_frames == count
    capsys.readouterr()
    assert t2v(PROMPT, "--long", "loops", "--quiet") == 2
    assert "choose keyframes or windows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["i2v", "FIRST", PROMPT, "--at", "2"], "--at 2 is not N=FILE"),
        (["i2v", "FIRST", PROMPT, "--at", "x=a.png"], "--at x=a.png is not N=FILE"),
        (["i2v", "FIRST", PROMPT, "--at", "99=FIRST"], "frames are 0 to 5"),
        (["multiview", "FIRST", "a pink", "cube"], "quotation marks"),
    ],
)
def test_wrong_pictures_are_one_line(
    gridctl: Cli,
    adapter: Path,
    first: str,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [argument.replace("FIRST", first) for argument in arguments]
    assert gridctl("generate", *arguments, "--adapter", adapter, "--quiet") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert words in errors[0]


def test_an_output_is_drawn_again_from_itself(
    t2v: Cli, gridctl: Cli, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert t2v(PROMPT, "-o", "a.webp", "--seed", 9) == 0
    assert gridctl("generate", "--from", "a.webp", "-o", "b.webp") == 0
    assert capsys.readouterr().out.splitlines() == ["a.webp", "b.webp"]
    assert (here / "a.webp").read_bytes() == (here / "b.webp").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--from", "plain.png", "-o", "b.png"], 1, "does not say how it was made"),
        (["--from", "nowhere.png", "-o", "b.png"], 1, "nowhere.png does not exist"),
        (["--from", "plain.png"], 2, "the new one with -o"),
        (["--from", "plain.png", "t2v", PROMPT], 2, "stands alone"),
    ],
)
def test_what_cannot_be_drawn_again_is_one_line(
    gridctl: Cli,
    here: Path,
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (32, 32)).save(here / "plain.png")
    assert gridctl("generate", *arguments) == code
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert words in errors[0]
