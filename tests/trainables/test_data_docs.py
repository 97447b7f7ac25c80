import re
import subprocess
import sys
from pathlib import Path

from trainables import datasets, noise
from trainables.datasets import image_folders, user_file

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    # In a process of their own: the examples register a data set and a noise kind.
    subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, check=True)


def documented(section):
    """The words in backticks in the first column of the tables of a section."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", text, flags=re.MULTILINE)
    words = [re.findall(r"`([^`]+)`", cell) for cell in cells]
    # `emnist-balanced`, `-letters`: a suffix replaces the end of the first word.
    return {
        first.rpartition("-")[0] + word if word.startswith("-") else word
        for first, *others in words
        for word in (first, *others)
    }


def test_every_data_set_and_every_kind_is_documented():
    assert documented("Data sets") == set(datasets.names())
    assert documented("Label noise") == set(noise.names())


def test_every_option_of_files_and_folders_is_documented():
    section = PAGE.partition("## Your own data\n")[2].partition("\n## ")[0]
    options = {*user_file.OPTIONS, *user_file.TABLE_OPTIONS, *user_file.ARRAY_OPTIONS}
    for option in (options | set(image_folders.OPTIONS)) - {"label", "text"}:
        assert f"`{option}" in section, option
