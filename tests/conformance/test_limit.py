"""With a smaller limit than protobuf's 2 GiB, all models that fit in memory can play the part of large ones."""

import pytest

from nncomp.onnx_io import graph_from_proto, graph_to_proto, load, save


@pytest.mark.parametrize("limit", [1 << 20, 1 << 12])
def test_small_models_come_back_from_files_under_a_small_limit(cases, tmp_path, limit, record_property):
    outside, whole = 0, [case for case in cases if case.kind != "node"]
    for number, case in enumerate(whole):
        graph = graph_from_proto(case.model)
        written = save(graph, tmp_path / f"{number}.onnx", protobuf_limit=limit)
        outside += len(written) > 1
        assert graph_to_proto(load(written[0])) == graph_to_proto(graph), case.label
    record_property("scoreboard", f"limit of {limit} bytes: {len(whole)} models, {outside} with a data file")
