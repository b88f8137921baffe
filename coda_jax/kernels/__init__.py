"""Kernels written for particular hardware, each beside the plain function that it must equal."""
