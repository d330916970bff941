"""Keys: one digest of everything that a result was computed from."""

import hashlib
import struct
from collections.abc import Mapping, Sequence

KEY_BYTES = 16
OWN = b"repalign.cache.1"  # sets these digests apart from all others; another number when the encoding changes


def key_of(*parts: object) -> str:
    """Digest `parts` into 32 hexadecimal digits, the same in every process and on every machine.

    Parts are None, booleans, integers, floats, strings, bytes, and sequences and mappings of these. Types tell
    apart, so 1, 1.0, True and "1" have four keys; a list and a tuple of the same items have one, as JSON keeps only
    the one. The order of a mapping's items does not matter. All NaN are one, 0.0 and -0.0 are two.

    Raises TypeError for anything else: its text could change from run to run.

    >>> key_of("ab", "c") == key_of("a", "bc")
    False
    >>> key_of({"pool": "mean", "layer": "blocks.3"}) == key_of({"layer": "blocks.3", "pool": "mean"})
    True
    """
    return hashlib.blake2b(_encode(parts), digest_size=KEY_BYTES, person=OWN).hexdigest()


def _encode(part: object) -> bytes:
    """Write one part so that nothing else is written alike: its type, its length and its bytes."""
    match part:
        case None:
            return _tagged(b"n", b"")
        case bool():  # before int, which it also is
            return _tagged(b"b", b"1" if part else b"0")
        case int():
            return _tagged(b"i", b"%x" % part)
        case float():
            return _tagged(b"f", struct.pack(">d", part if part == part else float("nan")))
        case str():
            return _tagged(b"s", part.encode(errors="surrogatepass"))  # file names may hold half a surrogate pair
        case bytes():
            return _tagged(b"y", part)
        case Mapping():
            return _tagged(b"m", b"".join(sorted(_encode(k) + _encode(v) for k, v in part.items())))
        case Sequence():
            return _tagged(b"t", b"".join(map(_encode, part)))
    raise TypeError(
        f"a key can't hold a {type(part).__name__} ({part!r}); give None, booleans, numbers, strings, bytes, or "
        "sequences and mappings of these"
    )


def _tagged(tag: bytes, content: bytes) -> bytes:
    return b"%s%d:%s" % (tag, len(content), content)
