"""Training and evaluation of CoDA-Nets on one or many devices."""
