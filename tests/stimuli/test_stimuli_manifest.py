import pytest
from PIL import Image

from repalign.errors import InputError
from repalign.stimuli.manifest import load, load_second


def write(tmp_path, text, **options):
    for i, name in enumerate(("1.png", "2.png", "b1.png", "b2.png")):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / name)
    path = tmp_path / "list.csv"
    path.write_text(text, **options)
    return path


def test_paths_alone_are_ids(tmp_path):
    path = write(tmp_path, "path\n2.png\n1.png\n")
    stimuli = load(path)
    assert stimuli.name == str(path)
    assert stimuli.ids == ("2.png", "1.png")
    assert (stimuli.groups, stimuli.labels) == (None, None)
    assert stimuli.load(0).getpixel((0, 0)) == (1, 0, 0)
    assert load_second(path) is None


def test_every_column_with_others_ignored(tmp_path):
    path = write(tmp_path, "id, label,path ,group,path_b,notes\na,cat,1.png,v1,b1.png,\nb,dog, 2.png,v2,b2.png,x\n")
    first, second = load(path), load_second(path)
    assert second is not None
    assert first.ids == second.ids == ("a", "b")
    assert first.groups == second.groups == ("v1", "v2")
    assert first.labels == second.labels == ("cat", "dog")
    assert first.load(1).getpixel((0, 0)) == (1, 0, 0)
    assert second.load(1).getpixel((0, 0)) == (3, 0, 0)
    assert second.name == f"{path}:path_b"


def test_the_second_side_has_the_ids_of_the_first(tmp_path):
    second = load_second(write(tmp_path, "path,path_b\n1.png,b1.png\n2.png,b2.png\n"))
    assert second is not None
    assert second.ids == ("1.png", "2.png")


def test_paths_start_at_the_manifest_and_may_be_absolute(tmp_path, monkeypatch):
    path = write(tmp_path, f"path\n1.png\n{tmp_path / '2.png'}\n")
    monkeypatch.chdir("/")
    assert load(path).load(1).getpixel((0, 0)) == (1, 0, 0)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    assert load(write(tmp_path, "path\r\n1.png\r\n\r\n2.png\r\n", encoding="utf-8-sig")).ids == ("1.png", "2.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,id\n1.png,a\n",
            "{} has no column path (columns found: file, id); name it in the first line",
        ),
        ("", "{} has no column path (columns found: none); name it in the first line"),
        ("path,path\n1.png,2.png\n", "{} has the column path more than once; keep one"),
        ("path,id\n", "{} has a header but no row; list at least one image"),
        ("path,group\n1.png,a\n2.png,\n", "{}, line 3: group is empty; fill every row or drop the column"),
        ("path,group,label\n1.png\n", "{}, line 2: group and label is empty; fill every row or drop the column"),
        ("path,id\n1,5.png,a\n", "{}, line 2: more cells than columns (2); quote a cell with a comma in it"),
    ],
)
def test_what_is_wrong_with_the_table_is_said(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(caught.value) == message.format(path)


def test_an_id_given_twice(tmp_path):
    with pytest.raises(InputError, match=r"list\.csv: ids must be unique, but a stand more than once"):
        load(write(tmp_path, "path,id\n1.png,a\n2.png,a\n"))


def test_missing_files_are_counted_and_named(tmp_path):
    path = write(tmp_path, "path,path_b\n1.png,b1.png\n2.png,b9.png\n")
    assert len(load(path)) == 2
    with pytest.raises(InputError) as caught:
        load_second(path)
    assert str(caught.value) == (
        f"{path}: 1 of 2 files in column path_b do not exist (b9.png); paths start at the manifest's folder, {tmp_path}"
    )


def test_a_file_that_is_no_csv(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"list\.csv can't be read as a manifest: .*; save it as CSV in UTF-8"):
        load(path)
    with pytest.raises(InputError, match="there is no manifest"):
        load(tmp_path / "lists.csv")
