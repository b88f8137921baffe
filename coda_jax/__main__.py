"""`python -m coda_jax`, which is `coda-jax`."""

from coda_jax.command_line import main

main()
