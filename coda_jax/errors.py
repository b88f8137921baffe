"""The error that bad input raises, and its text."""


class InputError(ValueError):
    """Input that cannot be used; the message is one line that says what is wrong and what is right.

    The command line prints the message and exits with status 1; from Python it is a `ValueError`.
    """


def one_line(text: object) -> str:
    """A text of unknown origin on one line, with U+FFFD for control characters, which terminals would obey."""
    words = " ".join(str(text).split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
