from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import plan_graphs
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from splitmesh.errors import InferenceError, ModelError
from splitmesh.inference import providers, session
from splitmesh.inference.providers import CPU, ProviderProbe, available, describe_device, probe, select
from splitmesh.inference.session import open_session

TENSORRT, CUDA = "TensorrtExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    return plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "tiny.onnx")


def elementwise(path: Path, op: str) -> Path:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", value[:1], value[1:])
    return plan_graphs.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (1, 3, 48, 48)).astype(np.float32)


def test_runs_and_tells_its_ports(model_path: Path) -> None:
    opened = open_session(model_path, threads=1, providers=("cpu",))
    assert opened.provider == CPU
    assert opened.inputs == {"image": ((1, 3, 48, 48), np.dtype("float32"))}
    assert opened.outputs == {"logits": ((1, 10), np.dtype("float32"))}
    given = picture()
    want = ort.InferenceSession(str(model_path), providers=[CPU]).run(None, {"image": given})[0]
    np.testing.assert_allclose(opened.run({"image": given})["logits"], want, rtol=1e-5)


def test_open_batch_takes_any_batch(tmp_path: Path) -> None:
    opened = open_session(plan_graphs.save(plan_graphs.residual_classifier(batch="N"), tmp_path / "n.onnx"))
    assert opened.inputs["image"][0] == (None, 3, 48, 48)
    assert opened.run({"image": np.concatenate([picture(), picture(1)])})["logits"].shape == (2, 10)


def test_options_are_explicit() -> None:
    options = session.session_options(3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            {"image": np.zeros((1, 3, 48, 47), np.float32)},
            "input image of .*tiny.onnx is 1x3x48x48 float32, not 1x3x48x47",
        ),
        ({"image": np.zeros((1, 3, 48, 48), np.float64)}, "not 1x3x48x48 float64"),
        ({"image": np.zeros((3, 48, 48), np.float32)}, "not 3x48x48"),
        ({"picture": np.zeros((1, 3, 48, 48), np.float32)}, "takes the inputs image, not picture"),
        ({}, "not none"),
    ],
)
def test_inputs_that_do_not_fit_are_named(model_path: Path, inputs: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(InferenceError, match=words):
        open_session(model_path).run(inputs)


@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_nan_and_inf_are_errors_that_name_model_and_output(tmp_path: Path, value: float) -> None:
    opened = open_session(elementwise(tmp_path / "log.onnx", "Log"))  # log(-1) is NaN, log(0) is -Inf
    with pytest.raises(InferenceError, match=r"output y of .*log\.onnx holds NaN or Inf"):
        opened.run({"x": np.array([1, 1, value, 1], np.float32)})


def test_finite_values_whose_sum_overflows_are_fine(tmp_path: Path) -> None:
    opened = open_session(elementwise(tmp_path / "id.onnx", "Identity"))
    huge = np.full(4, 3e38, np.float32)
    np.testing.assert_array_equal(opened.run({"x": huge})["y"], huge)


KINDS = {
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "uint16": TensorProto.UINT16,
    "int32": TensorProto.INT32,
    "uint32": TensorProto.UINT32,
    "int64": TensorProto.INT64,
    "uint64": TensorProto.UINT64,
}


def cast(path: Path, kind: int) -> Path:
    ports = [helper.make_tensor_value_info(n, k, [4]) for n, k in (("x", TensorProto.FLOAT), ("y", kind))]
    graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=kind)], "g", ports[:1], ports[1:])
    return plan_graphs.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.mark.parametrize(("dtype", "kind"), KINDS.items())
def test_every_number_comes_out(tmp_path: Path, dtype: str, kind: int) -> None:
    opened = open_session(cast(tmp_path / "cast.onnx", kind))
    assert opened.outputs == {"y": ((4,), np.dtype(dtype))}
    made = opened.run({"x": np.array([0, 1, 2, 3], np.float32)})["y"]
    assert made.dtype == dtype
    np.testing.assert_array_equal(made, np.array([0, 1, 2, 3]).astype(dtype))


def test_half_precision_overflow_is_not_finite_but_its_sum_may_overflow(tmp_path: Path) -> None:
    opened = open_session(cast(tmp_path / "half.onnx", TensorProto.FLOAT16))
    opened.run({"x": np.full(4, 6e4, np.float32)})
    with pytest.raises(InferenceError, match="output y"):
        opened.run({"x": np.full(4, 7e4, np.float32)})


def test_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"text\.onnx has y of type tensor\(string\).*no texts"):
        open_session(cast(tmp_path / "text.onnx", TensorProto.STRING))


def test_broken_and_absent_files_are_model_errors_with_the_path(tmp_path: Path, model_path: Path) -> None:
    cut_off = tmp_path / "cut-off.onnx"
    cut_off.write_bytes(model_path.read_bytes()[:500])
    for path in (cut_off, tmp_path / "absent.onnx"):
        with pytest.raises(ModelError, match=path.name):
            open_session(path)


def test_zero_threads_are_refused(model_path: Path) -> None:
    with pytest.raises(InferenceError, match="at least one thread"):
        open_session(model_path, threads=0)


def test_threads_may_share_a_session(model_path: Path) -> None:
    opened = open_session(model_path)
    given = [picture(i) for i in range(4)]
    want = [opened.run({"image": x})["logits"] for x in given]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(20):
            if not np.array_equal(opened.run({"image": given[index]})["logits"], want[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_cpu_is_probed_by_running_a_model() -> None:
    by_name = {p.name: p for p in available()}
    assert list(by_name) == [TENSORRT, CUDA, CPU]
    assert by_name[CPU] == ProviderProbe(CPU, True, "ran a probe model")
    for name in (TENSORRT, CUDA):
        if name not in ort.get_available_providers():
            assert not by_name[name].usable
            assert "does not contain it" in by_name[name].detail


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="needs a build without CUDA")
def test_a_provider_that_does_not_load_is_not_usable() -> None:
    """onnxruntime itself only warns and falls back; the probe must not be fooled by that."""
    with pytest.warns(UserWarning, match="not in available provider names"):
        assert not probe(CUDA).usable


def probes(*usable: str) -> list[ProviderProbe]:
    return [ProviderProbe(n, n in usable, "no driver") for n in (TENSORRT, CUDA, CPU)]


@pytest.mark.parametrize(
    ("request_", "usable", "expected"),
    [
        (("auto",), (TENSORRT, CUDA, CPU), (TENSORRT, CUDA, CPU)),
        (("auto",), (CUDA, CPU), (CUDA, CPU)),
        (("auto",), (CPU,), (CPU,)),
        (("cpu",), (TENSORRT, CUDA, CPU), (CPU,)),
        (("cuda",), (TENSORRT, CUDA, CPU), (CUDA, CPU)),
        (("cuda", "tensorrt"), (TENSORRT, CUDA, CPU), (CUDA, TENSORRT, CPU)),
        (("tensorrt", "auto"), (CUDA, CPU), (CUDA, CPU)),
        ((CUDA,), (CUDA, CPU), (CUDA, CPU)),
        (("cuda",), (CPU,), (CPU,)),
    ],
)
def test_selection(request_: tuple[str, ...], usable: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert select(request_, probes(*usable)) == expected


def test_a_wanted_provider_that_is_unusable_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert select(("cuda",), probes(CPU)) == (CPU,)
    assert "CUDAExecutionProvider is not usable here: no driver" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        select(("auto",), probes(CPU))
    assert not caplog.text, "nobody asked for CUDA by name"


def test_unknown_providers_are_refused() -> None:
    with pytest.raises(InferenceError, match="unknown provider 'npu'"):
        select(("npu",), probes(CPU))


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="needs a build without CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_falls_back_when_a_probed_provider_fails_on_the_model(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(providers, "available", lambda: tuple(probes(CUDA, CPU)))
    with caplog.at_level(logging.WARNING):
        opened = open_session(model_path, providers=("auto",))
    assert opened.provider == CPU
    assert "CUDAExecutionProvider did not load" in caplog.text
    assert opened.run({"image": picture()})["logits"].shape == (1, 10)


def test_device_description_is_stable_and_names_the_provider() -> None:
    assert describe_device() == describe_device(CPU)
    assert describe_device(CUDA).startswith("cuda/")
    assert describe_device().startswith("cpu/")


CODES = re.compile(r"ONNXRuntimeError|\w\.cc|\w\.h:|onnxruntime::|Load model|\n")


def refused(tmp_path: Path, node: NodeProto, *, ir: int = 8, **more: str) -> ModelError:
    """What loading such a graph from x (1, 6) to y raises."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 6]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("my.company", 1)]
    path = plan_graphs.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir), tmp_path / "odd.onnx")
    with pytest.raises(ModelError) as caught:
        open_session(path, **more)
    return caught.value


@pytest.mark.parametrize(
    ("node", "ir", "says"),
    [
        (helper.make_node("Deform", ["x"], ["y"], domain="my.company"), 8, "my.company:Deform"),
        (helper.make_node("NoSuchOp", ["x"], ["y"]), 8, "No Op registered for NoSuchOp"),
        (helper.make_node("Relu", ["x"], ["y"]), 99, "Unsupported model IR version: 99"),
        (helper.make_node("Relu", ["z"], ["y"]), 8, "z"),
    ],
    ids=["domain", "operator", "version", "name"],
)
def test_what_the_runtime_refuses_is_said_on_one_line_without_its_codes(
    tmp_path: Path, node: NodeProto, ir: int, says: str
) -> None:
    error = refused(tmp_path, node, ir=ir)
    path = tmp_path / "odd.onnx"
    assert error.message.startswith(f"model {path} can't be loaded: ")
    said = error.message.removeprefix(f"model {path} can't be loaded: ")
    assert says in said
    assert not CODES.search(said)
    assert ort.__version__ in error.advice


def test_what_fails_in_a_run_is_said_like_that_too(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y")]
    weight = numpy_helper.from_array(np.array([4, 5], np.int64), "sizes")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "sizes"], ["y"])], "g", ports[:1], ports[1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    opened = open_session(plan_graphs.save(model, tmp_path / "odd.onnx"))
    with pytest.raises(InferenceError, match="cannot be reshaped") as caught:
        opened.run({"x": np.zeros(6, np.float32)})
    assert not CODES.search(caught.value.message)


def test_a_model_that_was_made_of_another_is_called_by_that_ones_name(tmp_path: Path) -> None:
    error = refused(tmp_path, helper.make_node("NoSuchOp", ["x"], ["y"]), called="the user's own.onnx")
    assert error.message.startswith("model the user's own.onnx can't be loaded: ")
    path = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "full.onnx")
    with pytest.raises(InferenceError, match=r"^own\.onnx takes the inputs image, not none$"):
        open_session(path, called="own.onnx").run({})
