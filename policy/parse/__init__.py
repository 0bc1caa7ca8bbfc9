"""A policy file's text to a `Policy`, or to every problem it has at once.

`document` reads the whole, one module each section, all through the typed getters of `reader`.
"""

from policy.parse.document import Parsed, PolicyError, parse_policy

__all__ = ["Parsed", "PolicyError", "parse_policy"]
