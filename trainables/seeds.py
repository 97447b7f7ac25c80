"""Seeds by name, never by call order.

Every random draw of a study has a seed that follows from what it is for, so a network is the same
whichever worker trains it, in whichever cohort, before or after a restart.
"""

from __future__ import annotations

import hashlib


def derive(*parts: str | int) -> int:
    """A seed in [0, 2⁶³) that follows from `parts`; equal on every machine and Python version.

    SHA-256 of the parts' text, so that seeds of neighbouring parts are unrelated.
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
