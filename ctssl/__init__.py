"""Anatomy-aware self-supervised representations of chest CT.

Nothing heavy is imported here: the Snakefile and every command start through this package.
"""

__version__ = "0.1.0"
