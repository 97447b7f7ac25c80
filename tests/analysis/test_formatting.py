"""How numbers and lists are written."""

import pytest

from analysis.formatting import compact, count, listing, number, points, table_value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (points(0.01234), "1.23"),
        (points(-0.0146), "−1.46"),
        (points(-0.000001), "0.00"),
        (number(-0.004), "0.00"),
        (number(-10.001), "−10.00"),
        (number(None), "–"),
        (compact(0.5), "0.5"),
        (compact(2.0), "2"),
        (table_value(float("nan")), "–"),
        (table_value(None), "–"),
        (table_value(0.123456), "0.1235"),
        (table_value("mae"), "mae"),
        (count(1, "cell"), "1 cell"),
        (count(2, "cell"), "2 cells"),
        (listing([]), ""),
        (listing(["a"]), "a"),
        (listing(["a", "b", "c"]), "a, b and c"),
        (listing(list("abcde")), "a, b, c and 2 more"),
    ],
)
def test_text(text, expected):
    assert text == expected
