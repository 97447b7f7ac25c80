"""Seeds that follow from names, never from the order of calls.

Every random draw of a study has a seed that follows from its purpose. A network is therefore the
same on every worker, in every cohort, before and after a restart.
"""

from __future__ import annotations

import hashlib


def derive(*parts: str | int) -> int:
    """A seed that follows from `parts`, equal on every machine and Python version.

    It is taken from the SHA-256 of the parts' text, so seeds of similar parts are unrelated.

    Args:
        parts: name the purpose of the draw.

    Returns:
        in [0, 2⁶³).
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
