"""Names that data sets give, as figures show them."""

from coda_jax.errors import one_line

_LONGEST = 32


def shown(name: str) -> str:
    """A name as text for matplotlib, which draws it letter by letter: on one line, of at most 32 characters.

    Matplotlib would set what stands between two dollar signs as mathematics, and fail where it is none.
    """
    line = one_line(name)
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST - 1]}…"
    return line.replace("$", r"\$")
