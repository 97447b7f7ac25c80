"""Text as features: TF-IDF of words, or hashed words, through scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.datasets.base import DatasetError

VECTORISERS = ("tfidf", "hashed")
FEATURES = 2048


def vectorise(
    train: Sequence[str], others: Sequence[Sequence[str]], vectoriser: str, features: int
) -> list[NDArray[np.float32]]:
    """Features [N, `features`] of training texts and of others; rows have length 1.

    Vocabulary and weights are learnt from the training texts alone. With fewer different words
    than `features`, the last columns are zero.

    Parameters
    ----------
    train, others
        texts.
    vectoriser
        `tfidf`: 1 + log of the count, times the inverse document frequency, of the most frequent
        words; `hashed`: of all words, by a hash that may mix some up.
    features
        number of columns.

    Raises
    ------
    DatasetError: an unknown vectoriser, or no word in the training texts.
    """
    from sklearn.feature_extraction.text import (
        HashingVectorizer,
        TfidfTransformer,
        TfidfVectorizer,
    )
    from sklearn.pipeline import make_pipeline

    if vectoriser == "tfidf":
        made = TfidfVectorizer(sublinear_tf=True, max_features=features)
    elif vectoriser == "hashed":
        made = make_pipeline(
            HashingVectorizer(n_features=features, norm=None, alternate_sign=False),
            TfidfTransformer(sublinear_tf=True),
        )
    else:
        raise DatasetError(f"vectoriser = {vectoriser!r}; allowed: {', '.join(VECTORISERS)}")
    try:
        made.fit(train)
    except ValueError as error:  # scikit-learn's own words: an empty vocabulary
        raise DatasetError(f"no words in the training texts: {error}") from error
    out = []
    for texts in (train, *others):
        found = made.transform(texts)
        dense = np.zeros((len(texts), features), dtype=np.float32)
        dense[:, : found.shape[1]] = found.toarray()
        out.append(dense)
    return out
