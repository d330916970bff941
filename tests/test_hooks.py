import pytest
import torch
from torch import nn

from repalign.errors import LayerError
from repalign.hooks import first_tensor, record, trace


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


def test_first_tensor_looks_into_tuples_and_mappings():
    tensor = torch.zeros(1)
    assert first_tensor({"a": None, "b": (None, [tensor])}) is tensor
    assert first_tensor(("x", 3)) is None


def test_trace_lists_modules_as_they_finish_and_counts_calls():
    calls = trace(Twice(), torch.randn(2, 3))
    assert [(c.name, c.calls, c.shape) for c in calls] == [("shared", 2, (2, 3)), ("once", 1, (2, 3))]
