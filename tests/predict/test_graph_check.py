"""Fault 45: hostile ONNX files are refused before anything runs them."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

from assay.errors import ModelError
from assay.predict import graph_check, runtime
from assay.predict.graph_check import check_graph
from assay.predict.runtime import load_runtime


@pytest.fixture
def changed(model):
    """The model with its graph changed by a function."""

    def change(by):
        read = onnx.load_model_from_string(model.graph)
        by(read)
        return replace(model, graph=read.SerializeToString())

    return change


@pytest.fixture(autouse=True)
def _no_session(monkeypatch):
    """A graph that reaches onnxruntime fails the test."""

    def reached(*_):
        raise AssertionError("a session was made")

    monkeypatch.setattr(runtime, "_session", reached)


def outside(read):
    tensor = read.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(StringStringEntryProto(key="location", value="../secret"))


def outside_quietly(read):
    """As above, without the field that says where the data is."""
    read.graph.initializer[0].external_data.append(StringStringEntryProto(key="location", value="x"))


def outside_in_a_node(read):
    tensor = TensorProto(dims=[1], data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.append(StringStringEntryProto(key="location", value="/etc/passwd"))
    read.graph.node.append(helper.make_node("Constant", [], ["own"], value=tensor))


def own_domain(read):
    read.graph.node[0].domain = "com.microsoft"


def more_domains(read):
    read.opset_import.append(helper.make_opsetid("com.evil", 1))


def other_opset(read):
    read.opset_import[0].version = 21


def function(read):
    read.functions.append(helper.make_function("own", "F", ["a"], ["b"], [], [helper.make_opsetid("", 18)]))


def loop(read):
    inner = helper.make_graph([], "inner", [], [])
    read.graph.node.append(helper.make_node("If", ["images"], ["own"], then_branch=inner, else_branch=inner))


def sparse(read):
    read.graph.sparse_initializer.add().dims.append(2**40)


def giant(read):
    read.graph.initializer[0].dims[:] = [2**40, 2**20]


def giant_by_overflow(read):
    """Sides whose product is small in 64 bits."""
    read.graph.initializer[0].dims[:] = [2**32, 2**32, 1]


def negative(read):
    read.graph.initializer[0].dims[:] = [-2, -2]


def computed(read, *nodes, **numbers):
    held = [numpy_helper.from_array(np.array(values), name) for name, values in numbers.items()]
    read.graph.initializer.extend(held)
    read.graph.node.extend(helper.make_node(*node) for node in nodes)


def expanded(read):
    """Fault 64: 2 GB from a few bytes."""
    computed(read, ("Expand", ["one", "sides"], ["own"]), one=np.float32([1]), sides=[2**29])


def expanded_by_pixels(read):
    """A side that only the image decides."""
    computed(
        read,
        ("ReduceMax", ["images"], ["brightest"]),
        ("Reshape", ["brightest", "one"], ["pixel"]),
        ("Mul", ["pixel", "hundred"], ["sides"]),
        ("Expand", ["one", "sides"], ["own"]),
        one=[1],
        hundred=np.uint8([100]),
    )


def expanded_for_some_calls(read):
    """Nothing for 1 image or 16, the most in between for 8."""
    computed(
        read,
        ("Shape", ["images"], ["shape"]),
        ("Slice", ["shape", "zero", "one"], ["n"]),
        ("Sub", ["n", "one"], ["more"]),
        ("Sub", ["sixteen", "n"], ["fewer"]),
        ("Mul", ["more", "fewer"], ["both"]),
        ("Mul", ["both", "million"], ["sides"]),
        ("Expand", ["one", "sides"], ["own"]),
        zero=[0],
        one=[1],
        sixteen=[16],
        million=[10_000_000],
    )


def many_at_once(read):
    """No tensor is large, but half a gigabyte is needed before any can go."""
    names = [f"large-{number}" for number in range(40)]
    computed(
        read,
        *(("Tile", ["images", "times"], [name]) for name in names),
        ("Max", names, ["own"]),
        times=[1, 64, 64, 1],
    )


def many_in_another_order(read):
    """One after the other as they stand in the file, all at once where the small ones are made first."""
    nodes = []
    for number in range(40):
        nodes.append(("Tile", ["images", "times"], [f"large-{number}"]))
        nodes += [(kind, [f"large-{number}"], [f"{kind}-{number}"]) for kind in ("ReduceMax", "ReduceMin")]
    small = [f"{kind}-{number}" for kind in ("ReduceMax", "ReduceMin") for number in range(40)]
    computed(read, *nodes, ("Concat", small, ["own"]), times=[1, 64, 64, 1])
    read.graph.node[-1].attribute.append(helper.make_attribute("axis", 0))


def many_constants(read):
    """Computed at loading, and kept."""
    nodes = [("Expand", ["one", "sides"], [f"own-{number}"]) for number in range(40)]
    computed(read, *nodes, one=np.float32([1]), sides=[2**22])


def out_of_order(read):
    computed(read, ("Neg", ["later"], ["own"]), ("Cast", ["images"], ["later"]))
    read.graph.node[-1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))


def random(read):
    read.graph.node.append(helper.make_node("RandomNormal", [], ["own"], shape=[2**40]))


def float_input(read):
    read.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def two_inputs(read):
    read.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def no_output(read):
    del read.graph.output[:]


def many_sides(read):
    """A product that takes minutes to compute."""
    read.graph.initializer[0].dims[:] = [2**62] * 5_000


HOSTILE = {
    many_sides: r"expected no tensor '.*' of 5000 dimensions, got some",
    outside: r"expected no tensor '.*' in another file, got some",
    outside_quietly: r"expected no tensor '.*' in another file, got some",
    outside_in_a_node: r"expected no tensor '' in another file, got some",
    own_domain: r"domain of Cast: expected none, got com.microsoft",
    more_domains: r"operators: expected ONNX 18, got ONNX 18; com.evil 1",
    other_opset: r"operators: expected ONNX 18, got ONNX 21",
    function: r"expected no functions, training or other parts, got some",
    loop: r"expected no graphs or sparse tensors in If, got some",
    sparse: r"expected no sparse tensors, got some",
    expanded: r"expected at most [\d,]+ numbers at once, got 536,[\d,]+",
    many_at_once: r"expected at most 8,[\d,]{7} numbers at once, got 515,[\d,]{7}",
    many_in_another_order: r"expected at most 8,[\d,]{7} numbers at once, got 503,[\d,]{7}",
    many_constants: r"expected at most 8,[\d,]{7} numbers at once, got 167,[\d,]{7}",
    out_of_order: r"expected shapes that fit, got .*Neg.*Input 0 expected to have type[^;]*",
    expanded_by_pixels: r"expected no tensor 'own' of unknown shape, got some",
    expanded_for_some_calls: r"expected at most 8,[\d,]{7} numbers at once, got 140,[\d,]{7}",
    random: r"expected no operator RandomNormal, got some",
    giant: r"expected no tensor '.*' larger than its data, got some",
    giant_by_overflow: r"expected no tensor '.*' larger than its data, got some",
    negative: r"expected no tensor '.*' larger than its data, got some",
    float_input: r"input: expected images uint8 \(N, 32, 32, 3\), got images float32 \(N, 32, 32, 3\)",
    two_inputs: r"input: expected images uint8 \(N, 32, 32, 3\), got images .*; more float32 \(1\)",
    no_output: r"output: expected probabilities float32 \(N, 3\), got none",
}


@pytest.mark.parametrize("by", HOSTILE, ids=lambda by: by.__qualname__)
def test_a_hostile_graph_is_refused(changed, by):
    """Other files, other code, other shapes, and tensors that are not there."""
    advice = "; this is not the file that assay wrote: copy the whole model folder again$"
    with pytest.raises(ModelError, match=f"^model.onnx: {HOSTILE[by]}{advice}"):
        load_runtime(changed(by))


def test_our_own_graph_passes(model):
    """What was exported for this size and these labels, and for no other."""
    check_graph(model.graph, 32, 3)
    with pytest.raises(ModelError, match=r"input: expected images uint8 \(N, 64, 64, 3\)"):
        check_graph(model.graph, 64, 3)
    with pytest.raises(ModelError, match=r"output: expected probabilities float32 \(N, 2\)"):
        check_graph(model.graph, 32, 2)


def test_a_long_graph_passes(changed):
    """What counts is what is there at once: not all that is ever computed."""

    def longer(read):
        own = list(read.graph.node)
        for node in own:
            node.input[:] = ["1000" if name == "images" else name for name in node.input]
        first = helper.make_node("Cast", ["images"], ["0"], to=TensorProto.FLOAT)
        chain = [helper.make_node("Neg", [str(n)], [str(n + 1)]) for n in range(1_000)]
        del read.graph.node[:]
        read.graph.node.extend([first, *chain, *own])

    check_graph(changed(longer).graph, 32, 3)


def test_what_runs_is_what_was_checked(model):
    """Fields that this reader does not know are not handed on to a reader that may."""
    second = helper.make_graph([], "second", [], []).SerializeToString()
    hidden = b"\xba\x80\x80\x80\x08" + bytes([len(second)]) + second
    assert check_graph(model.graph + hidden, 32, 3) == check_graph(model.graph, 32, 3) == model.graph


def test_two_graphs_in_one_file_are_refused(model):
    """Parsers merge what comes twice; the check reads the merged graph."""
    with pytest.raises(ModelError, match=r"operators: expected ONNX 18, got ONNX 18; ONNX 18"):
        check_graph(model.graph * 2, 32, 3)
    graph_alone = onnx.ModelProto()
    graph_alone.graph.CopyFrom(onnx.load_model_from_string(model.graph).graph)
    with pytest.raises(ModelError, match=r"input: expected images uint8 .*, got images .*; images uint8"):
        check_graph(model.graph + graph_alone.SerializeToString(), 32, 3)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00\x01\x02ORTM", r"operators: expected ONNX 18, got none|expected an ONNX file"),
        (b"PK\x03\x04 a zip", r"expected an ONNX file, got something else"),
        (b"", r"operators: expected ONNX 18, got none"),
    ],
)
def test_other_files_are_refused(data, why):
    """Files of other kinds, and bytes of none."""
    with pytest.raises(ModelError, match=why):
        check_graph(data, 32, 3)


def test_a_cut_file_is_refused_wherever_it_is_cut(model):
    """Half a download is never half a model."""
    for end in np.linspace(1, len(model.graph) - 1, 60).astype(int):
        with pytest.raises(ModelError, match=r"^model.onnx: "):
            check_graph(model.graph[:end], 32, 3)


@given(data=st.data())
def test_a_changed_byte_is_refused_or_harmless(model, data):
    """Any byte, any value: the check ends, and in nothing but a refusal or a pass."""
    place = data.draw(st.integers(0, len(model.graph) - 1))
    value = data.draw(st.integers(0, 255))
    damaged = model.graph[:place] + bytes([value]) + model.graph[place + 1 :]
    with suppress(ModelError):
        check_graph(damaged, 32, 3)


def test_a_file_larger_than_onnx_allows_is_not_parsed(model, monkeypatch):
    """Its size is checked first."""
    monkeypatch.setattr(graph_check, "MAX_GRAPH_BYTES", 100)
    with pytest.raises(ModelError, match=r"^model.onnx: expected at most 100 bytes, got [\d,]+$"):
        check_graph(model.graph, 32, 3)
