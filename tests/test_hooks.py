import pytest
import torch
from torch import nn

from repalign.errors import LayerError
from repalign.hooks import first_tensor, record, record_all, trace


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.once = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.once(self.shared(self.shared(x)))


class Odd(nn.Module):
    """Gives its output inside a dictionary, as transformers do."""

    def __init__(self):
        super().__init__()
        self.inner, self.never = nn.Linear(3, 3), nn.Linear(3, 3)
        self.words = Words()

    def forward(self, x):
        self.words(x)
        return {"last": (self.inner(x), None)}


class Words(nn.Module):
    def forward(self, x):
        return "no tensor"


def clone(x):
    return x.clone()


def hooks_of(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_in_place_relu_after_the_hooked_module_does_not_change_what_was_recorded():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(inplace=True)).eval()
    x = torch.randn(5, 4)
    with record(model, {"0": clone}) as recording:
        model(x)
        recorded = recording.take()["0"]
    assert torch.equal(recorded, model[0](x))
    assert (recorded < 0).any()


def test_hooks_are_gone_after_success_and_after_failure():
    model = Twice()
    with pytest.raises(LayerError), record(model, {"shared": clone}) as _:
        model(torch.randn(2, 3))
    assert hooks_of(model) == 0
    with pytest.raises(LayerError), record(model, {"once": clone, "nowhere": clone}):
        pass
    trace(model, torch.randn(2, 3))
    assert hooks_of(model) == 0


def test_a_module_that_runs_twice_is_an_error_that_says_so():
    model = Twice()
    with pytest.raises(LayerError, match="'shared' runs more than once"), record(model, {"shared": clone}):
        model(torch.randn(2, 3))


def test_two_forward_passes_are_two_recordings():
    model = Twice()
    with record(model, {"once": clone}) as recording:
        first, second = torch.randn(2, 3), torch.randn(4, 3)
        model(first)
        assert torch.equal(recording.take()["once"], model(first).detach())
        recording.take()
        model(second)
        assert recording.take()["once"].shape == (4, 3)


def test_a_layer_that_never_runs_or_gives_no_tensor_is_named():
    model = Odd()
    with record(model, {"never": clone}) as recording:
        model(torch.randn(2, 3))
        with pytest.raises(LayerError, match="never ran never"):
            recording.take()
    with pytest.raises(LayerError, match="'words' gives no tensor but str"), record(model, {"words": clone}):
        model(torch.randn(2, 3))


class Deep(nn.Module):
    """Catches its own errors, holds state for the time of a pass, and counts how far passes came."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)), nn.Linear(3, 2)
        )
        self.busy, self.ended = False, 0

    def forward(self, x):
        self.busy = True
        try:
            x = self.body(x)
        except Exception:
            x = x.new_zeros(len(x), 2)
        finally:
            self.busy = False
        self.ended += 1
        return x


def test_a_pass_ends_once_all_layers_of_all_recordings_have_reported():
    model, x = Deep(), torch.randn(4, 3)
    wanted = [{"body.1": clone, "body.0": clone}, {"body.1.0": clone}]
    with record_all(model, wanted, stop=True) as recordings:
        for _ in range(2):
            first, second = recordings.of(lambda: model(x))
            assert list(first) == ["body.1", "body.0"]
            assert torch.equal(first["body.1"], second["body.1.0"].relu())
    assert (model.ended, model.busy, hooks_of(model)) == (0, False, 0)
    with record_all(model, wanted, stop=False) as recordings:
        assert torch.equal(recordings.of(lambda: model(x))[0]["body.1"], first["body.1"])
    assert model.ended == 1


def test_recordings_around_others_end_for_themselves_alone():
    model, x = Deep(), torch.randn(4, 3)
    one, other = ([{name: clone}] for name in ("body.0", "body.2"))
    with record_all(model, one, stop=True) as outer, record_all(model, other, stop=True) as inner:
        (found,) = outer.of(lambda: inner.of(lambda: model(x)))
        assert list(found) == ["body.0"]
        assert not inner.every[0].values
    assert torch.equal(found["body.0"], model.body[0](x))


def test_a_failed_pass_leaves_nothing_behind_and_keeps_its_own_error():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 2), nn.Linear(2, 2))
    with record_all(model, [{"0": clone}, {"2": clone}], stop=True) as recordings:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            recordings.of(lambda: model(torch.randn(2, 3)))
        model[1] = nn.Linear(3, 2)
        first, second = recordings.of(lambda: model(torch.randn(2, 3)))
        assert (list(first), list(second)) == (["0"], ["2"])
    with record_all(Odd(), [{"never": clone}], stop=True) as recordings, pytest.raises(LayerError, match="never ran"):
        recordings.of(lambda: None)


def test_first_tensor_looks_into_tuples_and_mappings():
    tensor = torch.zeros(1)
    assert first_tensor({"a": None, "b": (None, [tensor])}) is tensor
    assert first_tensor(("x", 3)) is None


def test_trace_lists_modules_as_they_finish_and_counts_calls():
    calls = trace(Twice(), torch.randn(2, 3))
    assert [(c.name, c.calls, c.shape) for c in calls] == [("shared", 2, (2, 3)), ("once", 1, (2, 3))]
