"""The rules that compute ε from the number of classes: `rules` applies them.

A study file names a rule. This module imports nothing, so that the file is checked fast.
"""

from __future__ import annotations

RULES: dict[str, tuple[str, str]] = {
    "activation": (
        "E[a_k](ε) = target",
        "z_i i.i.d. N(0, σ²), σ as given (1 in arXiv 2306.05497)",
    ),
    "activation-measured": (
        "E[a_k](ε) = target",
        "z_i as in a real untrained network: its spread σ, or its logits themselves",
    ),
    "gradient": (
        "E[δ_k](c) = E[δ_k](10 classes), δ_k = ∂L/∂z_k",
        "z_i i.i.d. N(0, σ²); 10 classes at σ = 1 with the reference value",
    ),
    "shift": (
        "ε = |E[Δ]| − a, E[Δ] ≈ −log(c − 1) − σ²/2 + (e^{σ²} − 1) / (2(c − 1))",
        "z_i i.i.d. N(0, σ²) with (e^{σ²} − 1) / (c − 1) < 1 (Ou & Zhang, arXiv 2305.02139)",
    ),
}
"""Rule → (formula, assumption)."""
