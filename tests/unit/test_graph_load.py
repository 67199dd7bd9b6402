"""Files as users have them: weights in other files, wherever in the graph; too large; damaged; out of order."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph import load
from splitmesh.plan.graph.load import MAX_MODEL_BYTES, load_model, model_files, model_sha256, read_skeleton

FLOAT = TensorProto.FLOAT


def weight(name: str, values: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(values, name)


def model_with_weights_everywhere() -> ModelProto:
    """In an initializer, a Constant, a body's initializer, a body's Constant, a sparse initializer."""
    ones = np.ones(4, np.float32)
    bodies = []
    for name, factor in (("then", 3), ("else", 5)):
        constant = helper.make_node("Constant", [], [f"{name}_c"], value=weight("", factor * ones))
        add = helper.make_node("Add", [f"{name}_c", f"{name}_w"], [f"{name}_s"])
        out = helper.make_tensor_value_info(f"{name}_s", FLOAT, [4])
        bodies.append(helper.make_graph([constant, add], name, [], [out], [weight(f"{name}_w", ones / 2)]))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=weight("", 10 * ones)),
        helper.make_node("If", ["yes"], ["b"], then_branch=bodies[0], else_branch=bodies[1]),
        helper.make_node("Sum", ["x", "w", "c", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "everywhere",
        [helper.make_tensor_value_info("x", FLOAT, [4])],
        [helper.make_tensor_value_info("y", FLOAT, [4])],
        [weight("w", 100 * ones), weight("yes", np.array(True))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def push_out(model: ModelProto, folder: Path, *, files: int = 2) -> Path:
    """Save with every tensor's bytes in other files, one after the other, as external data."""
    tensors = list(load._tensors(model.graph))
    contents = {f"weights-{index}.bin": b"" for index in range(files)}
    for index, tensor in enumerate(tensors):
        name = f"weights-{index % files}.bin"
        data = tensor.raw_data
        refer(tensor, name, len(contents[name]), len(data))
        contents[name] += data
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refer(tensor: TensorProto, location: str, offset: int | str, length: int | str | None) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    facts = {"location": location, "offset": str(offset), **({} if length is None else {"length": str(length)})}
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=value)


def answer(model: ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.zeros(4, np.float32)})[0]


def test_weights_in_other_files_are_loaded_from_wherever_in_the_graph(tmp_path: Path) -> None:
    whole = model_with_weights_everywhere()
    path = push_out(model_with_weights_everywhere(), tmp_path)
    loaded = load_model(path)
    assert loaded == whole
    np.testing.assert_array_equal(answer(loaded), np.full(4, 113.5))
    assert all(t.data_location == TensorProto.EXTERNAL for t in read_skeleton(path).graph.initializer)
    assert model_files(path) == (path, tmp_path / "weights-0.bin", tmp_path / "weights-1.bin")


def test_sparse_weights_and_weights_of_functions_may_lie_outside_too(tmp_path: Path) -> None:
    model = model_with_weights_everywhere()
    values = weight("sparse", np.ones(2, np.float32))
    places = weight("places", np.array([1, 2], np.int64))
    (tmp_path / "values.bin").write_bytes(values.raw_data)
    (tmp_path / "places.bin").write_bytes(places.raw_data)
    refer(values, "values.bin", 0, None)
    refer(places, "places.bin", 0, 16)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    constant = helper.make_node("Constant", [], ["o"], value=weight("", np.ones(2, np.float32)))
    (tmp_path / "inner.bin").write_bytes(constant.attribute[0].t.raw_data)
    refer(constant.attribute[0].t, "inner.bin", 0, 8)
    model.functions.append(helper.make_function("own", "F", [], ["o"], [constant], [helper.make_opsetid("", 13)]))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    loaded = load_model(path)
    np.testing.assert_array_equal(numpy_helper.to_array(loaded.graph.sparse_initializer[0].indices), [1, 2])
    np.testing.assert_array_equal(numpy_helper.to_array(loaded.functions[0].node[0].attribute[0].t), [1, 1])
    assert [file.name for file in model_files(path)] == ["m.onnx", "inner.bin", "places.bin", "values.bin"]


def test_sha256_of_one_file_is_its_own_and_of_several_counts_them_all(tmp_path: Path) -> None:
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(model_with_weights_everywhere().SerializeToString())
    assert model_sha256(plain) == hashlib.sha256(plain.read_bytes()).hexdigest()
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    path = push_out(model_with_weights_everywhere(), here)
    other = push_out(model_with_weights_everywhere(), there).rename(there / "zz.onnx")
    assert model_sha256(path) == model_sha256(other) != hashlib.sha256(path.read_bytes()).hexdigest()
    changed = bytearray((there / "weights-1.bin").read_bytes())
    changed[0] ^= 1
    (there / "weights-1.bin").write_bytes(changed)
    assert model_sha256(path) != model_sha256(other)


@pytest.mark.parametrize(
    ("location", "offset", "length", "says"),
    [
        ("absent.bin", 0, 16, r"'w' in 'absent\.bin', which is not there"),
        ("../outside.bin", 0, 16, r"'\.\./outside\.bin', outside the model's own folder"),
        ("sub/../../outside.bin", 0, 16, "outside the model's own folder"),
        ("/etc/hostname", 0, 16, "outside the model's own folder"),
        ("link.bin", 0, 16, r"'link\.bin', outside the model's own folder"),
        ("", 0, 16, "outside the model's own folder"),
        (".", 0, 16, "which is not there"),
        ("near.bin", 0, 12, "16 bytes are needed there at 0, it says 12 of 20"),
        ("near.bin", 8, 16, "16 bytes are needed there at 8, it says 16 of 20"),
        ("near.bin", 8, None, "16 bytes are needed"),
        ("near.bin", -4, 16, "needed there at -4"),
        ("near.bin", "x", 16, "offset 'x'"),
    ],
)
def test_other_files_that_are_missing_escape_or_do_not_fit_are_named(
    tmp_path: Path, location: str, offset: int | str, length: int | None, says: str
) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside.bin").write_bytes(bytes(20))
    (folder / "near.bin").write_bytes(bytes(20))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    model = model_with_weights_everywhere()
    refer(model.graph.initializer[0], location, offset, length)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    for read in (load_model, model_files, model_sha256):
        with pytest.raises(ModelError, match=says) as caught:
            read(path)
        assert str(path) in caught.value.message


def test_a_cache_that_links_model_and_weights_to_one_store_is_read(tmp_path: Path) -> None:
    store, links = tmp_path / "blobs", tmp_path / "snapshots" / "onnx"
    store.mkdir(), links.mkdir(parents=True)
    push_out(model_with_weights_everywhere(), store, files=1)
    (links / "m.onnx").symlink_to(store / "m.onnx")
    (links / "weights-0.bin").symlink_to(store / "weights-0.bin")
    np.testing.assert_array_equal(answer(load_model(links / "m.onnx")), np.full(4, 113.5))


def test_more_than_two_gigabytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as stream:
        stream.truncate(MAX_MODEL_BYTES + 1)
    model = model_with_weights_everywhere()
    model.graph.initializer[0].ClearField("dims")
    model.graph.initializer[0].dims.extend([600_000_000])
    refer(model.graph.initializer[0], "huge.bin", 0, 2_400_000_000)
    with (tmp_path / "huge.bin").open("wb") as stream:
        stream.truncate(2_400_000_000)
    split = tmp_path / "split.onnx"
    split.write_bytes(model.SerializeToString())
    for path in (huge, split):
        for read in (load_model, model_files, model_sha256):
            with pytest.raises(ModelError, match=r"2\.[04]0 GB with its weights, more than the 2 GB") as caught:
                read(path)
            assert str(path) in caught.value.message and caught.value.advice


def test_tied_weights_count_as_often_as_they_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with_weights_everywhere()
    (tmp_path / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    for index in range(40):
        model.graph.initializer.append(weight(f"tied{index}", np.ones(4, np.float32)))
        refer(model.graph.initializer[-1], "w.bin", 0, 16)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert len(load_model(path).graph.initializer) == 42
    monkeypatch.setattr(load, "MAX_MODEL_BYTES", path.stat().st_size + 600)
    with pytest.raises(ModelError, match="more than"):
        load_model(path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xff\xff", b"version https://git-lfs.github.com/spec/v1\n", b"\x08\x08"]
)
def test_what_is_no_model_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx is not an ONNX model"):
        load_model(path)
    with pytest.raises(ModelError, match=r"absent\.onnx can't be read"):
        load_model(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="can't be read"):
        model_sha256(tmp_path)


def chain(*nodes: tuple[str, str], output: str = "c") -> ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Neg", [a], [b]) for a, b in nodes],
        "chain",
        [helper.make_tensor_value_info("x", FLOAT, [4])],
        [helper.make_tensor_value_info(output, FLOAT, [4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_nodes_are_put_in_topological_order_and_left_alone_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(chain(("b", "c"), ("x", "a"), ("x", "d"), ("a", "b")), str(path))
    assert [n.output[0] for n in load_model(path).graph.node] == ["a", "d", "b", "c"]
    onnx.save(chain(("x", "d"), ("x", "a"), ("a", "b"), ("b", "c")), str(path))
    assert [n.output[0] for n in load_model(path).graph.node] == ["d", "a", "b", "c"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (chain(("x", "a"), ("lost", "c")), "reads tensor 'lost', which nothing makes"),
        (chain(("x", "a")), "reads tensor 'c', which nothing makes"),
        (chain(("x", "c"), ("x", "c")), "makes tensor 'c' twice"),
        (chain(("x", "x"), output="x"), "makes tensor 'x' twice"),
        (chain(("a", "b"), ("b", "a"), ("x", "c")), "has a cycle"),
    ],
)
def test_a_graph_whose_names_do_not_hold_together_is_refused(tmp_path: Path, model: ModelProto, says: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=says):
        load_model(path)
