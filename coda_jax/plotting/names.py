"""Names that data sets give, as figures show them."""

from coda_jax.errors import one_line

_LONGEST = 32


def shortened(name: str, longest: int) -> str:
    """A name on one line, of at most `longest` characters."""
    line = one_line(name)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def shown(name: str) -> str:
    """A name as text for matplotlib, which draws it letter by letter: on one line, of at most 32 characters.

    Matplotlib would set what stands between two dollar signs as mathematics, and fail where it is none.
    """
    return shortened(name, _LONGEST).replace("$", r"\$")
