"""`gridctl generate vocabulary`: the words of the built-in model."""

from __future__ import annotations

from gridctl.cli.generate.call import generate_app
from gridctl.cli.shell import Shell, with_shell


@generate_app.command("vocabulary")
@with_shell
def vocabulary(shell: Shell) -> None:
    """List the words that the built-in model knows.

    Example: gridctl generate vocabulary
    """
    from gridctl.tiny.words import EXAMPLES, VOCABULARY

    lines = [f"{kind:<12} {', '.join(words)}" for kind, words in VOCABULARY.items()]
    lines += [f"{'example' if not i else '':<12} {text}" for i, text in enumerate(EXAMPLES)]
    shell.results(lines, {**VOCABULARY, "examples": EXAMPLES})
