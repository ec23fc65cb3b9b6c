"""The entry point, and the only place where errors become exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from types import FrameType


def main() -> int:
    """Run the command line. Return the exit code."""
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _end)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell ignores it
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _end)
    try:
        return _main()
    except KeyboardInterrupt:
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    """End like an error does, so that temporary files are removed.

    An import is finished first: modules written in Cython, such as NumPy's, lose an exception
    that is raised while they are imported, and the command would go on.
    """
    if sys.platform != "win32" and _is_importing(frame):
        timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()
    elif number == signal.SIGINT:
        raise KeyboardInterrupt
    else:
        raise SystemExit(128 + number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame and frame.f_code is not _main.__code__:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _main() -> int:
    try:
        os.getcwd()  # noqa: PTH109  # every relative path needs it
    except OSError:
        print("gridctl: the current folder was deleted; change to another one.", file=sys.stderr)
        return 1
    from gridctl.cli.app import app
    from gridctl.errors import ExitCode, GridctlError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be no UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="gridctl")  # Typer ends usage errors with 2 and Ctrl-C with 130
    except GridctlError as error:
        if "--traceback" in sys.argv:
            raise
        for line in str(error).splitlines():
            print(f"gridctl: {line}", file=sys.stderr)
        return error.exit_code
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError" or "--traceback" in sys.argv:
            raise
        remedy = "use a profile for less memory (gridctl profile list), or a smaller grid or batch"
        print(f"gridctl: GPU memory is full; {remedy}.", file=sys.stderr)
        return ExitCode.FAILED
    except OSError as error:
        if "--install-completion" not in sys.argv or "--traceback" in sys.argv:
            raise
        remedy = "add what gridctl --show-completion prints to your shell's start-up file"
        print(f"gridctl: completion cannot be installed ({error}); {remedy}.", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
