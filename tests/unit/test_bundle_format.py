"""plan.pb and the schema say the same, whatever is in a plan."""

from __future__ import annotations

import hashlib
import typing
from typing import Any

import plan_folders
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from splitmesh.errors import ModelError
from splitmesh.plan.bundle.format import parse_plan, parse_plan_json, plan_bytes, plan_json
from splitmesh.plan.bundle.schema import PlanFile
from splitmesh.v1 import plan_pb2


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in typing.get_args(annotation) for found in models_in(inner)]


def check_fields(model: type[BaseModel], message: Descriptor) -> None:
    assert set(model.model_fields) == set(message.fields_by_name), model.__name__
    for name, field in model.model_fields.items():
        for inner in models_in(field.annotation):
            check_fields(inner, message.fields_by_name[name].message_type)


def test_every_field_of_the_schema_is_in_the_proto_and_no_other() -> None:
    check_fields(PlanFile, plan_pb2.PlanFile.DESCRIPTOR)


share = st.floats(0, 1)
number = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
sha = st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest())
cut_name = st.from_regex(r"[a-z0-9][a-z0-9-]{0,47}", fullmatch=True)
count = st.integers(0, 2**31 - 1)
large = st.integers(0, 2**53)
texts = st.lists(text, max_size=3)
tensor = st.fixed_dictionaries({"name": text, "wire": text, "shape": st.lists(large, max_size=4), "dtype": text})
cut = st.fixed_dictionaries(
    {
        "name": cut_name,
        "tensors": st.lists(tensor, max_size=3),
        "elements": large,
        "node_index": st.integers(-1, 2**31 - 1),
        "head_share": share,
        "parity_max_rel": number,
        "deterministic": st.booleans(),
        "batchable": st.booleans(),
    }
)
fidelity_bin = st.fixed_dictionaries(
    {
        "objects": st.sampled_from(["0", "1-3", "4+", "any"]),
        "motion": st.sampled_from(["still", "moving", "any"]),
        "frames": count,
        "fidelity": share,
    }
)
row = st.fixed_dictionaries(
    {
        "cut": text,
        "codec": text,
        "level": count,
        "variant": st.sampled_from(["", "int8", "small"]),
        "bytes_mean": number,
        "bytes_p95": number,
        "fidelity": share,
        "agreement": share,
        "metrics": st.dictionaries(text, number, max_size=3),
        "bins": st.lists(fidelity_bin, max_size=2),
    }
)
rejected = st.fixed_dictionaries(
    {"name": text, "stage": st.sampled_from(["graph", "parity", "screen", "pareto"]), "reason": text}
)
plan_files = st.fixed_dictionaries(
    {
        "key": st.fixed_dictionaries(
            {
                "model_sha256": sha,
                "manifest_sha256": sha,
                "anchors_sha256": text,
                "codecs": st.dictionaries(text, st.lists(count, max_size=3), max_size=3),
                "footage_sha256": text,
                "options": text,
            }
        ),
        "tools": st.dictionaries(text, text, max_size=3),
        "notes": texts,
        "calibrated": st.booleans(),
        "frames": st.fixed_dictionaries({"parity": count, "fit": count, "evaluate": count}),
        "nodes": count,
        "frontiers": count,
        "batchable": st.booleans(),
        "deterministic": st.booleans(),
        "cuts": st.lists(cut, max_size=2),
        "rejected": st.lists(rejected, max_size=2),
        "rows": st.lists(row, max_size=2),
        "track_kappa": number,
        "track_samples": count,
        "strip": st.fixed_dictionaries(
            {
                "ops": texts,
                "elements": st.lists(large, max_size=3),
                "shares": st.lists(number, max_size=3),
                "index": st.lists(count, max_size=3),
            }
        ),
        "files": st.dictionaries(text, sha, max_size=3),
    }
).map(PlanFile.model_validate)


@given(plan_files)
def test_any_plan_survives_both_forms(plan: PlanFile) -> None:
    data = plan_bytes(plan)
    assert parse_plan(data, where="x") == plan
    assert parse_plan_json(plan_json(plan), where="x") == plan
    assert plan_bytes(parse_plan_json(plan_json(plan), where="x")) == data


def test_the_order_in_which_maps_were_filled_does_not_show() -> None:
    facts = plan_folders.facts(files={})
    turned = {**facts, "tools": dict(reversed(facts["tools"].items()))}
    assert plan_bytes(PlanFile.model_validate(facts)) == plan_bytes(PlanFile.model_validate(turned))
    assert plan_json(PlanFile.model_validate(facts)) == plan_json(PlanFile.model_validate(turned))


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with pytest.raises(ModelError, match="plan x"):
        parse_plan(data, where="plan x")
    with pytest.raises(ModelError, match="plan x"):
        parse_plan_json(data, where="plan x")
