"""What earlier runs computed, kept on disk under what it was computed from, and checked whenever it is read.

Nothing here imports torch before an entry is read or written, so that the commands over the cache answer at once.
"""

from repalign.cache.entry import Entry
from repalign.cache.keys import key_of
from repalign.cache.places import open_cache, temporary_cache
from repalign.cache.store import Cache

__all__ = ["Cache", "Entry", "key_of", "open_cache", "temporary_cache"]
