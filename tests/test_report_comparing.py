"""Times of layers, side by side: the same work of the same model, however it is cut."""

from nncomp.report.comparing import layer_times


def timed(digest, layers):
    """Return what a comparison reads of layers: (name, output, microseconds)."""
    return {
        "model": {"digest": digest},
        "layers": {"items": [{"name": name, "output": output} for name, output, _ in layers]},
        "measured": {"layers": [{"latency_us": time} for *_, time in layers]},
    }


def test_the_same_work_is_compared_however_it_is_cut_into_layers():
    apart = timed("m", [("conv", "a", 5.0), ("relu", "b", 1.0), ("fc", "y", 2.0)])
    fused = timed("m", [("conv", "b", 4.0), ("fc", "y", 2.5)])
    swapped = timed("m", [("other", "a", 7.0), ("fc", "z", None)])
    assert layer_times([apart, fused]) == [("conv", [6.0, 4.0]), ("fc", [2.0, 2.5])]
    assert layer_times([fused, swapped]) == []
    assert layer_times([apart, swapped]) == [("conv", [5.0, 7.0])]


def test_layers_of_different_models_are_not_compared_whatever_they_are_called():
    assert layer_times([timed("m", [("conv", "a", 5.0)]), timed("n", [("conv", "a", 1.0)])]) == []
