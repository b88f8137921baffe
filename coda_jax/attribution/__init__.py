"""Attribution methods that explain any function from inputs to logits, and that CoDA-Nets are compared with."""
