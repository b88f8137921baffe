"""The error that bad input raises."""


class InputError(ValueError):
    """Input that cannot be used; the message is one line that says what is wrong and what is right.

    The command line prints the message and exits with status 1; from Python it is a `ValueError`.
    """
