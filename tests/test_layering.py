"""A module imports only from levels above its own, from earlier modules of its level, or from its own folder."""

import ast
from pathlib import Path

import pytest

import repalign

ROOT = Path(repalign.__file__).parent
# each line may import from the lines above it; names on one line stand in the order in which they may import
LEVELS = [
    "errors types arithmetic memory stack progress together",
    "cache hooks projection pooling encoders stimuli filters metrics twosample",
    "spectrum subset forward decoding chunks gathered extract embedding align streaming wrap infer precision subjects "
    "distill diagnosis",
    "report",
    "folder viewing filtering storage rows side pairing running kept incoming onepass projected sides "
    "measuring controls optics conditions tables description api",
    "study design parts gather many teaching diagnosed diagnosing distilling",
    "terminal cache_cli diagnose_cli distill_cli cli __main__",
]
ORDER = [name for level in LEVELS for name in level.split()]
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{a.name}" if node.module == "repalign" else str(node.module) for a in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
    return {n.split(".")[1] for n in names if n.startswith("repalign.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_upwards(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert own in ORDER, f"{own} has no level: add it to LEVELS"
    later = {name for name in imported(path) - {own} if ORDER.index(name) >= ORDER.index(own)}
    assert not later, f"{own} imports {later}, which stand at or below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
