"""The entry point, and the only place where errors become exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys


def main() -> int:
    """Run the command line. Return the exit code."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        return _main()
    except KeyboardInterrupt:  # also during imports
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _: object) -> None:
    """End like an error does, so that temporary files are removed: Python just stops otherwise."""
    raise SystemExit(128 + number)


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
