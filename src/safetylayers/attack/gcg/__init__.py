"""GCG: a suffix of tokens that makes a compliant opening likely, by greedy coordinate gradient (arXiv 2307.15043).

For testing one's own model.
"""

from safetylayers.attack.gcg.attack import Gcg

__all__ = ["Gcg"]
