"""The tables of docs/losses.md and docs/theory.md say what the code does."""

from pathlib import Path

import pytest

from trainables import losses
from trainables.theory.rules import analytic_rules

DOCS = Path(__file__).parents[2] / "docs"


def rows(name, header):
    """Cells of the table whose header starts with `header`."""
    lines = iter((DOCS / name).read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {header} |"):
            break
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def described(p):
    usual = f" [{p.low:g}, {p.high:g}]" + (" log" if p.log else "") if p.low < p.high else ""
    return f"{p.name} = {p.default:g}{usual}"


def test_table_of_losses_is_the_registry():
    table = {cells[0].strip("`"): cells for cells in rows("losses.md", "loss | formula")}
    assert set(table) == set(losses.names())
    for name, (_, _, flags, parameters) in table.items():
        loss = losses.get(name)
        expected = {
            letter
            for letter, flag in (
                ("B", loss.bounded),
                ("S", loss.symmetric),
                ("A", loss.asymmetric),
                ("P", loss.of_probability),
            )
            if flag
        }
        assert set(flags.replace("–", "").split()) == expected, name
        assert parameters == ("; ".join(map(described, loss.parameters)) or "–"), name


def test_table_of_presets_is_the_registry():
    table = {c[0].strip("`"): c[1].replace("`", "") for c in rows("losses.md", "loss | presets")}
    for name in losses.names():
        assert table.get(name, "") == ", ".join(p.name for p in losses.get(name).presets)


def test_table_of_rules():
    table = list(rows("theory.md", "classes"))
    assert len(table) > 5
    for classes, activation, gradient, shift, q in table:
        computed = {row.rule: row.value for row in analytic_rules(int(classes))}
        assert computed["activation"] == pytest.approx(float(activation), abs=0.00501)
        assert computed["gradient"] == pytest.approx(float(gradient), abs=0.00501)
        assert computed["shift"] == pytest.approx(float(shift), abs=0.00501)
        (row,) = analytic_rules(int(classes), loss="gce", parameter="q")
        assert row.value == pytest.approx(float(q), abs=0.00501)
