"""A decoded video frame as an upright RGB picture."""

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, final

import numpy as np
from PIL import Image

from repalign.stimuli.video_file import pyav

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

# Matrix coefficients of ITU-T H.273, table 4 → libav's names; 5 and 6 are both BT.601, 10 is 9 in another order
MATRICES = {1: "bt709", 4: "fcc", 5: "smpte170m", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
HD_HEIGHT = 720  # the smallest HD picture; below it an unmarked stream is taken for BT.601
FULL_RANGE = 2  # libav's AVCOL_RANGE_JPEG
# accurate to half a level; libav's default for speed is off by three
FLAGS = "flags=bilinear+accurate_rnd+full_chroma_int:out_range=pc"

# Signs of a, b, c, d in x' = a·x + c·y, y' = b·x + d·y (ISO/IEC 14496-12, section 6.2.2), y downwards → how to turn
TURNS: Mapping[tuple[int, ...], Image.Transpose] = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}


@final
class Painter:
    """Turns the frames of one video into pictures; not for several threads at once.

    Y′CbCr becomes RGB by the frame's own matrix (BT.601, 709, 2020, …) and range. Where the stream does not say, the
    matrix is taken as BT.709 from 720 lines on and BT.601 below, the range as limited (16..235). Transfer and primaries
    are left as they are: what is close to sRGB (BT.709, BT.601) is taken for it. The display matrix is applied when it
    turns by right angles or mirrors. Interlaced fields stay woven.
    """

    def __init__(self) -> None:
        self._made_for: tuple[int, int, str, int, int] | None = None
        self._graph: Graph | None = None
        self._turn: Image.Transpose | None = None

    def paint(self, frame: "VideoFrame") -> Image.Image:
        """Convert one frame to 8-bit RGB."""
        looks = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or looks != self._made_for:
            self._graph, self._made_for, self._turn = _graph(frame), looks, TURNS.get(_orientation(frame))
        self._graph.push(frame)
        picture = Image.fromarray(self._graph.pull().to_ndarray())  # type: ignore[union-attr]
        return picture if self._turn is None else picture.transpose(self._turn)


def _graph(frame: "VideoFrame") -> "Graph":
    """Build libav's filters that convert frames like this one to RGB.

    `VideoFrame.to_image` is not used: it takes what is unmarked for BT.601, and before PyAV 17 everything.
    """
    graph = pyav().filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    nodes = [source, graph.add("scale", _conversion(frame)), graph.add("format", "rgb24"), graph.add("buffersink")]
    for one, other in pairwise(nodes):
        one.link_to(other)
    graph.configure()
    return graph


def _conversion(frame: "VideoFrame") -> str:
    """Write the options of libav's conversion; grey and RGB frames have no matrix."""
    if frame.format.is_rgb or len(frame.format.components) < 3:
        return FLAGS
    unmarked = "bt709" if frame.height >= HD_HEIGHT else "smpte170m"
    full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
    return f"{FLAGS}:in_color_matrix={MATRICES.get(frame.colorspace, unmarked)}:in_range={'pc' if full else 'tv'}"


def _orientation(frame: "VideoFrame") -> tuple[int, ...]:
    """Give the signs of the display matrix's upper left quarter; empty without a matrix.

    Not asked for every frame: PyAV's `side_data` keeps a frame in memory until the garbage collector comes.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return ()
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return tuple(int(np.sign(round(value / 65536))) for value in (a, b, c, d))  # 16.16 fixed point
