"""Networks: CoDA-Nets, hybrids, and conventional networks to compare them with."""
