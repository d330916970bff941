"""A distillation from names to a finished run: settled, loaded, diagnosed, trained, judged once at the end, written."""

from repalign.distilling.flow import Finished, distil
from repalign.distilling.settings import Asked, Settings, settle

__all__ = ["Asked", "Finished", "Settings", "distil", "settle"]
