"""How far a run is: a bar for a person who watches, plain lines for a log."""

import sys
import time

from tqdm import tqdm


class Progress:
    """Counts the images of a run, from `done` to `total`, and tells the rate and the time left on standard error."""

    def __init__(self, total: int, done: int):
        """Start counting; `done` images were seen before."""
        self._bar = tqdm(total=total, initial=done, unit="img", unit_scale=True, disable=not sys.stderr.isatty())
        self._total, self._done = total, done
        self._told_at, self._told = time.monotonic(), done

    def advance(self, images: int) -> None:
        """Count images that have been seen."""
        self._done += images
        self._bar.update(images)

    def tell(self, message: str) -> None:
        """Print a line; where there is no bar, with the rate since the last one and the time left."""
        now = time.monotonic()
        rate = (self._done - self._told) / max(now - self._told_at, 1e-9)
        if self._bar.disable:
            left = tqdm.format_interval((self._total - self._done) / rate) if rate else "?"
            print(f"{message}  {rate:.0f} images/s  {left} left", file=sys.stderr, flush=True)
        else:
            self._bar.write(message, file=sys.stderr)
        self._told_at, self._told = now, self._done

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
