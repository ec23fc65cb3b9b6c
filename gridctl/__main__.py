"""The entry point, and the one place where errors become exit codes."""

from __future__ import annotations

import io
import sys


def main() -> int:
    """Run the command line; return the exit code."""
    try:
        return _main()
    except KeyboardInterrupt:  # while it imports, too
        return 130


def _main() -> int:
    from gridctl.cli.app import app
    from gridctl.errors import ExitCode, GridctlError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        app()  # Typer itself ends usage errors with 2 and Ctrl-C with 130
    except GridctlError as error:
        if "--traceback" in sys.argv:
            raise
        for line in str(error).splitlines():
            print(f"gridctl: {line}", file=sys.stderr)
        return error.exit_code
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError" or "--traceback" in sys.argv:
            raise
        remedy = "take a profile for less memory (gridctl profile list), or a smaller grid or batch"
        print(f"gridctl: the GPU's memory is full; {remedy}.", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
