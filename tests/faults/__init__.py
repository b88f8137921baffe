"""Programs that do to runs what machines do to them; docs/reliability.md has what they found."""

import os

# They take minutes, and look at programs as users have them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
