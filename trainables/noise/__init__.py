"""Label noise: pure functions from clean labels to noisy ones.

Most kinds are a transition matrix T [C, C], T[i, j] = P(noisy label j | true label i). The noisy
label of each example is drawn independently from the row of its true label. All randomness comes
from the seed, through uniform doubles whose stream is the same on every machine. With one seed, a
label that is flipped at a low rate is flipped in the same way at every higher rate of the same
kind; `asymmetric-sequential` is the exception, because it flips some labels back.

Each kind is defined in a file of `trainables.noise.kinds` and registers itself there.
"""

from trainables.noise.base import NoiseError as NoiseError
from trainables.noise.base import NoisyLabels as NoisyLabels
from trainables.noise.base import NoisySplits as NoisySplits
from trainables.noise.base import UnknownNoiseError as UnknownNoiseError
from trainables.noise.base import describe as describe
from trainables.noise.corruption import apply as apply
from trainables.noise.corruption import check as check
from trainables.noise.corruption import corrupt as corrupt
from trainables.noise.corruption import matrix_for as matrix_for
from trainables.noise.corruption import transition_matrix as transition_matrix
from trainables.noise.matrix_kind import MatrixKind as MatrixKind
from trainables.noise.registry import NoiseKind as NoiseKind
from trainables.noise.registry import get as get
from trainables.noise.registry import names as names
from trainables.noise.registry import register as register
from trainables.noise.registry import registered as registered
from trainables.noise.text import matrix_as_text as matrix_as_text

__all__ = [
    "MatrixKind",
    "NoiseError",
    "NoiseKind",
    "NoisyLabels",
    "NoisySplits",
    "UnknownNoiseError",
    "apply",
    "check",
    "corrupt",
    "describe",
    "get",
    "matrix_as_text",
    "matrix_for",
    "names",
    "register",
    "registered",
    "transition_matrix",
]
