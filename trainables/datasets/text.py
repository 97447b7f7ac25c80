"""Text as features: TF-IDF of words, or hashed words, by scikit-learn."""

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
    """Turn training texts and other texts into features.

    Vocabulary and weights are learnt from the training texts alone. With fewer different words
    than `features`, the last columns are zero.

    Args:
        train: training texts.
        others: lists of other texts.
        vectoriser: `tfidf` has one column for each of the most frequent words; its value is
            (1 + log of the count) times the inverse document frequency. `hashed` has the same
            values for all words; a hash chooses the column, so two words may share one.
        features: number of columns F.

    Returns:
        float32 [N, F] for the training texts and for each list of `others`; rows have length 1.

    Raises:
        DatasetError: an unknown vectoriser, or no word in the training texts.
    """
    from sklearn.feature_extraction.text import (
        HashingVectorizer,
        TfidfTransformer,
        TfidfVectorizer,
    )
    from sklearn.pipeline import make_pipeline

    if vectoriser == "tfidf":
        model = TfidfVectorizer(sublinear_tf=True, max_features=features)
    elif vectoriser == "hashed":
        model = make_pipeline(
            HashingVectorizer(n_features=features, norm=None, alternate_sign=False),
            TfidfTransformer(sublinear_tf=True),
        )
    else:
        raise DatasetError(f"vectoriser = {vectoriser!r}; allowed: {', '.join(VECTORISERS)}")
    try:
        model.fit(train)
    except ValueError as error:  # scikit-learn's message: an empty vocabulary
        raise DatasetError(f"no words in the training texts: {error}") from error
    matrices = []
    for texts in (train, *others):
        sparse = model.transform(texts)
        dense = np.zeros((len(texts), features), dtype=np.float32)
        dense[:, : sparse.shape[1]] = sparse.toarray()
        matrices.append(dense)
    return matrices
