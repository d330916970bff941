"""The errors all kinds of stimuli share: a path that does not exist, a set that is too small."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from repalign.errors import InputError
from repalign.types import Stimuli

FEWEST_STIMULI = 4  # the debiased estimators divide by n - 3
NAMES_SHOWN = 5


def existing(spec: str | Path, what: str, remedy: str = "check the path") -> Path:
    """Give the path of `spec`, with `~` as the home folder.

    Raises InputError when there is no such file or folder: with near matches, else with the remedy.
    """
    path = Path(spec).expanduser()
    if path.exists():
        return path
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    siblings = sorted(p.name for p in missing.parent.iterdir()) if missing.parent.is_dir() else []
    near = difflib.get_close_matches(missing.name, siblings, n=3, cutoff=0.5)
    if near:
        remedy = f"did you mean {' or '.join(str(missing.parent / name) for name in near)}?"
    raise InputError(f"there is no {what} {spec} ({missing.parent.resolve()} holds no {missing.name}); {remedy}")


def require_enough(stimuli: Stimuli) -> Stimuli:
    """Give the stimuli back when there are at least 4 of them.

    Raises InputError otherwise: similarity lives in the relations between stimuli.
    """
    n = len(stimuli)
    if n >= FEWEST_STIMULI:
        return stimuli
    if n == 1:
        raise one_image(stimuli.name)
    raise InputError(f"{stimuli.name} holds {n} images; similarity needs at least {FEWEST_STIMULI} stimuli; add more")


def one_image(name: str) -> InputError:
    """Build the error for a single image."""
    return InputError(
        f"{name} is one image only: similarity compares how stimuli relate to each other and needs "
        f"at least {FEWEST_STIMULI} stimuli; give a folder of images"
    )


def some(names: Sequence[str]) -> str:
    """List up to five names, and say when there are more.

    >>> some(["a", "b"]), some("abcdefg")
    ('a, b', 'a, b, c, d, e, …')
    """
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
