"""Names that whoever makes a data set can give its classes."""

# Mathematics, right and wrong; markup; line breaks; what terminals obey; what cannot be encoded; and much of it.
HOSTILE = [
    "$x",
    "$x^2$",
    "$\\frac{$",
    r"\$1\$",
    "<script>-->&amp;",
    "a\nb\r\nc",
    "\0\x1b[31m",
    "\u202ecba",
    "\ud800",
    "x" * 10**6,
]
