"""Measures of explanations: where they lie, what they are worth, whether they add up and depend on the parameters."""
