import argparse
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from repalign.encoders.checkpoint import count_classes, read_checkpoint
from repalign.encoders.fit import fit
from repalign.errors import WeightsError

CLASSIFIER = ("head",)


class Tiny(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        if classes:
            self.head = nn.Linear(4, classes)


class Opaque:
    pass


@pytest.fixture
def state():
    torch.manual_seed(1)
    return {k: torch.randn(v.shape) if v.is_floating_point() else v for k, v in Tiny().state_dict().items()}


def written(tmp_path, content, name="w.pt"):
    path = tmp_path / name
    torch.save(content, path)
    return str(path)


def prefixed(state, prefix):
    return {prefix + k: v for k, v in state.items()}


def loaded(path, module=None, **options):
    module = module or Tiny()
    notes = fit(module, read_checkpoint(path), name="tiny@w", classifier=CLASSIFIER, **options)
    return module.state_dict(), notes


def same(found, state):
    return all(torch.equal(found[k], v.to(found[k].dtype)) for k, v in state.items() if k in found)


def test_safetensors_and_torch_files_load_exactly(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    for path in (str(tmp_path / "w.safetensors"), written(tmp_path, state)):
        found, notes = loaded(path)
        assert same(found, state)
        assert notes == ()


WRAPPED = {
    "lightning": (lambda s: {"state_dict": prefixed(s, "model."), "epoch": 3}, "'state_dict'", "'model.'"),
    "ddp": (lambda s: {"model": prefixed(s, "module."), "optimizer": {"state": {0: {"m": torch.ones(1)}}}}, "'model'",
            "'module.'"),
    "compiled ddp": (lambda s: prefixed(s, "module._orig_mod."), "", "'module._orig_mod.'"),
    "timm": (lambda s: {"state_dict": {k: v * 0 for k, v in s.items()}, "state_dict_ema": s,
                        "args": argparse.Namespace(lr=1)}, "'state_dict_ema' (there is also state_dict)", ""),
    "no average kept": (lambda s: {"model": s, "model_ema": None}, "'model'", ""),
    "dino": (lambda s: {"student": prefixed({k: v * 0 for k, v in s.items()}, "module.backbone."), "epoch": 1,
                        "teacher": prefixed(s, "backbone.") | {"head.mlp.0.weight": torch.ones(2, 4)}},
             "'teacher' (there is also student)", "'backbone.'"),
    "moco": (lambda s: {"state_dict": prefixed({k: v * 0 for k, v in s.items()}, "module.encoder_k.")
                        | prefixed(s, "module.encoder_q.") | {"module.queue": torch.ones(3)}}, "'state_dict'",
             "'module.encoder_q.'"),
    "inside the unknown": (lambda s: {"my_run": s, "step": 7}, "'my_run'", ""),
    "nested twice": (lambda s: {"checkpoint": {"model": s}}, "'model'", ""),
    "parameters": (lambda s: {k: nn.Parameter(v, requires_grad=v.is_floating_point()) for k, v in s.items()}, "", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(WRAPPED))
def test_wrapped_checkpoints_are_unwrapped_and_say_so(tmp_path, state, kind):
    wrap, key, prefix = WRAPPED[kind]
    found, notes = loaded(written(tmp_path, wrap(state)))
    assert same(found, state)
    assert key in str(notes)
    assert prefix in str(notes)


def test_a_network_whose_own_names_begin_with_a_prefix_is_left_alone(tmp_path, state):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = Tiny()

    module = Wrapper()
    notes = fit(module, read_checkpoint(written(tmp_path, prefixed(state, "module."))), name="wrapper@w")
    assert same(module.module.state_dict(), state)
    assert notes == ()


def test_half_precision_is_widened(tmp_path, state):
    found, _ = loaded(written(tmp_path, {k: v.half() if v.is_floating_point() else v for k, v in state.items()}))
    assert found["conv.weight"].dtype == torch.float32
    assert torch.equal(found["conv.weight"], state["conv.weight"].half().float())


def test_batch_counts_and_classifiers_may_be_absent_or_extra(tmp_path, state):
    backbone = {k: v for k, v in state.items() if "num_batches" not in k and not k.startswith("head.")}
    assert loaded(written(tmp_path, backbone))[1] == ("the classifier keeps untrained values (not in the file)",)
    assert loaded(written(tmp_path, state | {"fc.weight": torch.ones(9, 4)}), Tiny(classes=0))[1] == ()


def test_classes_are_read_off_the_classifier(tmp_path, state):
    path = written(tmp_path, {"state_dict": prefixed(state, "module.") | {"module.aux.head.weight": torch.ones(9, 4)}})
    assert count_classes(read_checkpoint(path), CLASSIFIER) == 3
    assert count_classes(read_checkpoint(path), ("fc",)) == 0
    assert count_classes(read_checkpoint(path), ()) == 0


def test_differences_are_listed_and_refused(tmp_path, state):
    state |= {"blocks.2.weight": torch.ones(4, 4), "blocks.0.weight": torch.ones(5, 5), "bn.bias": torch.ones(4).int()}
    del state["conv.bias"]
    path = written(tmp_path, state)
    with pytest.raises(WeightsError) as caught:
        loaded(path)
    text = str(caught.value)
    assert text.startswith("tiny@w: the weights don't fit: 1 of 13 tensors missing from the file (conv.bias); ")
    assert "1 unexpected (blocks.2.weight)" in text
    assert "2 of another shape or type (" in text
    assert "blocks.0.weight: (5, 5) in the file, (4, 4) in the network" in text
    assert "bn.bias: int32 in the file, float in the network" in text
    assert "--allow-partial (allow_partial=True)" in text


def test_a_partial_load_keeps_and_names_what_is_untrained(tmp_path, state):
    without = {k: v for k, v in state.items() if k != "conv.bias"}
    module = Tiny()
    before = module.conv.bias.clone()
    found, notes = loaded(written(tmp_path, without), module, allow_partial=True)
    assert torch.equal(module.conv.bias, before)
    assert same(found, without)
    assert notes == (
        "loaded in part, 1 of 13 tensors keep untrained values: 1 of 13 tensors missing from the file (conv.bias)",
    )


def test_a_partial_load_of_nothing_is_refused(tmp_path):
    path = written(tmp_path, {f"other.{i}": torch.ones(1) for i in range(10)})
    with pytest.raises(WeightsError, match=r"10 unexpected \(other.0, .*other.7, … 2 more\)"):
        loaded(path, allow_partial=True)


def test_a_deeper_network_in_the_file_does_not_fit(tmp_path, state):
    path = written(tmp_path, prefixed(state | {"blocks.2.bias": torch.ones(4)}, "module."))
    with pytest.raises(WeightsError, match=r"1 unexpected \(blocks.2.bias\)"):
        loaded(path)


def test_conversion_is_tried_where_names_do_not_fit(tmp_path, state):
    path = written(tmp_path, {k.replace("blocks", "layer"): v for k, v in state.items()})

    def convert(tensors, module):
        return {k.replace("layer", "blocks"): v for k, v in tensors.items()}

    found, notes = loaded(path, convert=convert)
    assert same(found, state)
    assert notes == ("tensors renamed by timm's checkpoint filter",)


def test_a_conversion_that_resizes_is_no_exact_fit(tmp_path, state):
    renamed = {k.replace("blocks", "layer"): v for k, v in state.items()}
    path = written(tmp_path, renamed | {"conv.weight": torch.ones(4, 3, 5, 5)})

    def convert(tensors, module):
        return state | {"conv.weight": torch.ones(4, 3, 3, 3)}

    with pytest.raises(WeightsError, match=r"fit: 1 resized to fit \(conv.weight: \(4, 3, 5, 5\) to \(4, 3, 3, 3\)\)"):
        loaded(path, convert=convert)
    found, notes = loaded(path, convert=convert, allow_partial=True)
    assert torch.equal(found["conv.weight"], torch.ones(4, 3, 3, 3))
    assert notes[1].startswith("loaded in part, 0 of 13 tensors keep untrained values: 1 resized to fit")


def test_a_conversion_may_move_tensors_and_drop_prefix_tokens(tmp_path):
    module = nn.Module()
    module.first, module.second = nn.Linear(4, 4), nn.Linear(4, 8)
    module.positions = nn.Parameter(torch.zeros(1, 196, 4))
    state = {k: torch.randn(v.shape) for k, v in module.state_dict().items()}
    official = {"second.weight": state["first.weight"], "second.bias": state["first.bias"],
                "third.weight": state["second.weight"], "third.bias": state["second.bias"],
                "positions": torch.cat([torch.zeros(1, 1, 4), state["positions"]], 1)}  # fmt: skip

    def convert(tensors, module):
        moved = {k.replace("second", "first").replace("third", "second"): v for k, v in tensors.items()}
        return moved | {"positions": tensors["positions"][:, 1:].clone()}

    checkpoint = read_checkpoint(written(tmp_path, official))
    assert fit(module, checkpoint, name="moved@w", convert=convert) == ("tensors renamed by timm's checkpoint filter",)
    assert same(module.state_dict(), state)


def test_a_conversion_that_fails_is_passed_over(tmp_path, state):
    path = written(tmp_path, state | {"extra": torch.ones(1)})

    def convert(tensors, module):
        raise KeyError("pos_embed")

    with pytest.raises(WeightsError, match=r"1 unexpected \(extra\)"):
        loaded(path, convert=convert)


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(str(path))
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_is_refused_with_the_way_to_convert(tmp_path, zipped):
    path = tmp_path / "whole.pt"
    torch.save({"model": Opaque()}, path, _use_new_zipfile_serialization=zipped)
    text = refusal(path)
    assert "it needs pickle, which can run any code while it loads" in text
    assert "torch.save(model.state_dict(), 'weights.pt')" in text
    assert "safetensors.torch.save_file" in text
    assert not zipped or "Opaque" in text


def test_plain_pickles_are_refused_too(tmp_path):
    path = tmp_path / "raw.pkl"
    path.write_bytes(pickle.dumps([Opaque()]))
    assert "needs pickle" in refusal(path)


def test_missing_files_come_with_near_matches(tmp_path):
    written(tmp_path, {"a": torch.ones(1)}, "dino_vitb16.pt")
    assert "did you mean dino_vitb16.pt?" in refusal(tmp_path / "dino_vitb61.pt")
    assert f"the folder {tmp_path} has dino_vitb16.pt" in refusal(tmp_path / "zzz")
    assert "does not exist" in refusal(tmp_path / "nowhere" / "w.pt")
    assert "is a folder; name a file inside it" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.pt", b"hello world, no checkpoint", "it is no checkpoint, or a damaged one"),
        ("empty.pt", b"", "it is no checkpoint, or a damaged one"),
        ("bad.safetensors", b"hello world, no checkpoint", "is no safetensors file, or a damaged one"),
        (
            "lfs.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
            "fetch them with: git lfs pull",
        ),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    assert message in refusal(path)


def test_archives_that_are_no_checkpoints(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    assert "it is no checkpoint" in refusal(tmp_path / "arrays.npz")
    written(tmp_path, {"a": torch.ones(100)}, "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:400])
    assert "it is no checkpoint, or a damaged one" in refusal(tmp_path / "cut.pt")


@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated")
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is not supported in Python:DeprecationWarning")
def test_torchscript_is_named(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    assert "it is a TorchScript archive" in refusal(tmp_path / "script.pt")


def test_files_without_weights_say_what_they_hold(tmp_path):
    text = refusal(written(tmp_path, {"epoch": 1, "args": argparse.Namespace()}))
    assert "holds no weights by name; it holds epoch, args; write it with torch.save(model.state_dict(), …)" in text
    assert "holds no weights by name; write it" in refusal(written(tmp_path, [torch.ones(1)]))
