"""How far a run is: a bar for a person who watches, plain lines for a log."""

import sys
import time

import jax
from tqdm import tqdm


class Progress:
    """Tells on standard error how far a run is; of several processes, the first one does."""

    def __init__(self, total: int, done: int = 0, unit: str = "images"):
        """Start the clock; of `total` units, `done` were seen before."""
        self._unit = unit
        self._tells = jax.process_index() == 0
        shown = self._tells and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit=f" {unit}", unit_scale=True, disable=not shown)
        self._started = time.monotonic()
        self._to_see, self._seen = total - done, 0

    def advance(self, count: int) -> None:
        """Count units that have been seen."""
        self._seen += count
        self._bar.update(count)

    def tell(self, message: str) -> None:
        """Print a line; where there is no bar, with the mean rate since the start and the time left at that rate."""
        if not self._tells:
            return
        if self._bar.disable and self._seen:
            rate = self._seen / (time.monotonic() - self._started)
            decimals, left = 0 if rate >= 10 else 2, tqdm.format_interval((self._to_see - self._seen) / rate)
            message += f"  {rate:.{decimals}f} {self._unit}/s  {left} left"
        self._bar.write(message, file=sys.stderr)
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
