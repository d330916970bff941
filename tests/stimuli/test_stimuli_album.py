import gc

from PIL import Image
from streamed import in_processes
from tars import level

from repalign.stimuli.album import Album
from repalign.stimuli.reservoir import Reservoir

IDS = [f"p{k:03d}" for k in range(60)]


def shown(album, first, stop):
    for k in range(first, stop, 7):
        names = IDS[k : min(k + 7, stop)]
        album.add(names, [Image.new("RGB", (3, 2), (int(name[1:]), 1, 2)) for name in names])
    return album


def expected():
    reservoir = Reservoir(9, 4)
    reservoir.add(IDS, {})
    return reservoir.ids


def test_an_album_keeps_the_pictures_of_a_reservoir():
    album = shown(Album(9, 4), 0, 60)
    stimuli = album.stimuli("a stream", ("a note",))
    assert stimuli.ids == expected()
    assert stimuli.notes == ("a note",)
    assert [level(stimuli.load(i)) for i in range(9)] == [int(name[1:]) for name in stimuli.ids]
    assert stimuli.load(0).size == (3, 2)
    assert len(list(album._folder.iterdir())) == 9


def test_processes_bring_theirs_together():
    def work(together):
        album = shown(Album(9, 4), 20 * together.rank, 20 * together.rank + 20)
        album.gather(together)
        return album

    first, *_ = in_processes(3, work)
    stimuli = first.stimuli("a stream", ())
    assert stimuli.ids == expected()
    assert [level(stimuli.load(i)) for i in range(9)] == [int(name[1:]) for name in stimuli.ids]


def test_the_pictures_go_with_the_last_that_holds_them():
    album = shown(Album(9, 4), 0, 20)
    folder, stimuli = album._folder, album.stimuli("a stream", ())
    del album
    gc.collect()
    assert stimuli.load(3).size == (3, 2)
    del stimuli
    gc.collect()
    assert not folder.exists()
