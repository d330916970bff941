"""Filtered pictures on disk: a folder that pairs with the stimuli it came from, a sheet and a record beside it."""

from repalign.filtering.result import Filtering
from repalign.filtering.run import filter_pictures

__all__ = ["Filtering", "filter_pictures"]
