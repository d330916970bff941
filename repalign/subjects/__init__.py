"""People and animals: several subjects' responses to the same stimuli, their noise ceiling and models of them."""

from repalign.encoders.group import Subjects
from repalign.subjects.ceiling import NoiseCeiling, group_rdm, noise_ceiling
from repalign.subjects.comparison import ModelComparison, model_comparison
from repalign.subjects.load import load_subjects, subjects_from_arrays

__all__ = [
    "ModelComparison", "NoiseCeiling", "Subjects", "group_rdm", "load_subjects", "model_comparison", "noise_ceiling",
    "subjects_from_arrays",
]  # fmt: skip
