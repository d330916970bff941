"""The diagnoses of a run, before and after training, on pictures that neither training nor the test uses."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from repalign.diagnosing import Ask, diagnose_to_folder
from repalign.diagnosis.diagnosis import Settings as How
from repalign.distilling.loading import Loaded
from repalign.distilling.settings import Settings
from repalign.errors import InputError
from repalign.progress import Track
from repalign.types import Encoder

BEFORE, AFTER = "before", "after"


def diagnose(loaded: Loaded, settings: Settings, folder: Path, device: str, track: Track) -> None:
    """Diagnose student and teacher on the validation part and write the diagnosis' folder.

    The networks are copies: running them would change the order of their memory, and with it the last bits of what
    training comes to. Raises InputError when there are too few pictures, and as `diagnose_to_folder` does.
    """
    if loaded.teacher is None or loaded.data.validation is None:
        raise InputError("a diagnosis needs a teacher and validation pictures; give --teacher, and validation above 0")
    shown = loaded.data.validation
    named = replace(shown, name=settings.data, notes=(*shown.notes, f"the run's validation part, {shown.name}"))
    ask = Ask(
        _copied(loaded.teacher), _copied(loaded.student), named, folder,
        settings=How(seed=settings.recipe.seed), device=device, classes=loaded.data.classes,
        command=f"part of {folder.parent}",
    )  # fmt: skip
    diagnose_to_folder(ask, track)


def _copied(encoder: Encoder) -> Encoder:
    return replace(encoder, module=deepcopy(encoder.module))
