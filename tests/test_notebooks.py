"""Every notebook runs from top to bottom; the one that trains on a few pictures of CIFAR-10's size, for one epoch."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Ten classes of blotches, each of a colour of its own, in train/ and test/."""
    root, rng = tmp_path_factory.mktemp("cifar10"), np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 4)):
        for name in CLASSES:
            folder = root / part / name
            folder.mkdir(parents=True)
            colour = np.random.default_rng(len(name) + ord(name[0])).integers(50, 200, 3)
            for k in range(count):
                pixels = (colour + rng.integers(-50, 50, (4, 4, 3))).astype(np.uint8)
                Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{k:02d}.png")
    return root


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, labelled, monkeypatch):
    for name, value in {"DATA": labelled, "EPOCHS": 1, "LABELS": 100, "PICTURES": 100}.items():
        monkeypatch.setenv(f"REPALIGN_NOTEBOOK_{name}", str(value))
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    last = [c for c in notebook.cells if c.cell_type == "code"][-1]
    assert "stimuli" in last.outputs[0]["text"]
    if path.stem == "distil":
        said = "".join(o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
        assert "Distil by KD, the logits alone: by the rule logits." in said
        assert 'method = "kd"' in said  # distill.toml, as it was shown before it was used
        table = last.outputs[1]["data"]["text/plain"]
        assert all(row in table for row in ("before", "last", "best", "teacher", "test_accuracy"))


def test_there_are_notebooks():
    assert NOTEBOOKS
