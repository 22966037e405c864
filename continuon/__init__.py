"""The shortest safe path from a robot's demonstrations to a better policy on it.

Data walks one way: senses become episodes, episodes batches, batches parameters,
parameters artifacts, artifacts a signed bundle, a bundle a slot, and a slot the policy
that moves the robot. Each room of this package owns one of those nouns.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
