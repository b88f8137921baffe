"""The errors that are answered with one line on the command line, and their text; the modules raise them."""


class InputError(ValueError):
    """Input that cannot be used; the message is one line that says what is wrong and what is right.

    The command line prints the message and exits with status 1; from Python it is a `ValueError`.
    """


class RunError(RuntimeError):
    """A run that cannot go on; the message is one line that says why, and what is kept.

    The command line prints the message and exits with `status`: 1, or 128 and the number of the signal that ended it.
    """

    def __init__(self, message: str, status: int = 1):
        """Keep the status."""
        super().__init__(message)
        self.status = status


def one_line(text: object) -> str:
    """A text of unknown origin on one line, with U+FFFD for control characters, which terminals would obey."""
    words = " ".join(str(text).split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
