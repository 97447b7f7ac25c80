"""Pooling of studies: what is pooled, what stays apart, what is refused."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from planted import BEST_ARMS, Planted, gaussian, write_study

from analysis.data.load import LoadError, load
from analysis.data.pool import load_pooled
from analysis.exploratory.dynamics import epoch_frame
from analysis.report.html import analyse_and_report
from analysis.verdict import analyse


def write(folder: Path, cells: list[Planted], rng: int, draws: int = 0, **config: object) -> str:
    """A planted folder whose replicates are drawn anew where `draws` differs."""
    write_study(folder, cells, rng=rng, sd=0.002, arms=BEST_ARMS, plan=True)
    for path in folder.glob("trials/*/*.parquet"):
        frame = pq.read_table(path).to_pandas()
        for column in ("noise_seed", "init_seed", "order_seed"):
            frame[column] = frame[column] + 10_000 * draws
        frame["study"] = folder.name
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    content = {"name": folder.name, "seed": draws, "recipe": {"epochs": 4}, **config}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    return str(folder)


def test_more_seeds_of_the_same_cells(tmp_path):
    cell = Planted(response=gaussian(3.3))
    folders = [write(tmp_path / f"s{k}", [cell], rng=k, draws=k) for k in range(3)]
    one = analyse(folders[0]).cells[0].value["activation"]
    verdict = analyse(folders, into=str(tmp_path / "all"))
    (judged,) = verdict.cells
    pooled = judged.value["activation"]
    assert (one.n, pooled.n) == (5, 15)
    assert pooled.high - pooled.low < one.high - one.low
    assert judged.procedure["activation"].n == 12  # searches of different studies are different
    assert judged.completeness.stages["confirm"].planned == 3 * (5 * 5 + 4 * 3 * 2)
    assert judged.completeness.is_complete
    assert verdict.pooled.refused is None
    assert judged.response.seeds == 9
    assert any("differ in seeds alone" in note for note in verdict.notes)
    assert (
        verdict.provenance.networks["confirm"]
        == 3 * load(folders[0]).trials["stage"].eq("confirm").sum()
    )
    assert (tmp_path / "all/analysis/verdict.json").is_file()
    assert len(epoch_frame(load_pooled(folders))) == 3 * len(epoch_frame(load(folders[0])))


def test_the_same_networks_count_once(tmp_path):
    cell = Planted(response=gaussian(3.03))
    folders = [write(tmp_path / name, [cell], rng=0) for name in ("a", "copy")]
    one, both = load(folders[0]), load_pooled(folders)
    assert len(both.trials) == len(one.trials)
    assert any("more than one folder" in note for note in both.notes)
    assert len(epoch_frame(both)) == len(epoch_frame(one))
    pooled = analyse(folders, into=str(tmp_path / "all"))
    assert pooled.cells[0].value == analyse(folders[0]).cells[0].value
    assert pooled.pooled.completeness == analyse(folders[0]).pooled.completeness


def test_cells_of_other_recipes_are_other_cells(tmp_path):
    cells = [Planted(response=gaussian(3.3)), Planted(response=gaussian(3.6))]
    folders = [
        write(tmp_path / name, [cell], rng=k, draws=k, recipe={"epochs": 4 + k})
        for k, (name, cell) in enumerate(zip(("short", "long"), cells, strict=True))
    ]
    verdict = analyse(folders, into=str(tmp_path / "all"))
    ids = sorted(c.cell_id.partition(": ")[0] for c in verdict.cells)
    assert ids == ["long", "short"]
    alone = {c: analyse(f).cells[0] for c, f in zip(("short", "long"), folders, strict=True)}
    for c in verdict.cells:
        single = alone[c.cell_id.partition(": ")[0]]
        assert c.value["activation"].mean == pytest.approx(single.value["activation"].mean)
        assert c.reference is not None  # plain cross-entropy of the same study
    means = [c.value["activation"].measured.mean for c in verdict.cells]
    pooled = verdict.pooled.value
    assert pooled.mean - pooled.adjustment == pytest.approx(sum(means) / 2)
    assert pooled.low < pooled.mean < pooled.high


def test_a_report_of_several_studies(tmp_path):
    folders = [
        write(tmp_path / name, [Planted(dataset=name)], rng=k, draws=k)
        for k, name in enumerate(("one", "two"))
    ]
    verdict, path = analyse_and_report(folders, into=str(tmp_path / "all"))
    assert "one + two" in Path(path).read_text()
    assert verdict.pooled.scope.further_datasets.datasets == 2


def test_what_cannot_be_pooled_is_refused(tmp_path):
    a = write(tmp_path / "a", [Planted()], rng=0, analysis={"margin": 0.005})
    b = write(tmp_path / "b", [Planted()], rng=1, draws=1, analysis={"margin": 0.01})
    with pytest.raises(LoadError, match="no study folder"):
        load_pooled([])
    with pytest.raises(LoadError, match="given twice"):
        load_pooled([a, a])
    with pytest.raises(LoadError, match=r"different margins \(0.005, 0.01\)"):
        load_pooled([a, b])
    with pytest.raises(LoadError, match="--into"):
        analyse([a, b], margin=0.005)
    assert load_pooled([a, b], margin=0.02).margin == 0.02
