"""What a torch.export program may hold: names that stay names, structures that import nothing, operators of torch."""

import json
from typing import Any

import pytest

from garrison.exported_rules import MODEL_RECORD, find_faults

LEAF = {"type": None, "context": None, "children_spec": []}


def container(kind: str, context: Any, *children: Any) -> dict[str, Any]:
    return {"type": kind, "context": context, "children_spec": list(children)}


def faults(**values: Any) -> list[str]:
    return list(find_faults([MODEL_RECORD], lambda _: {"graph": [values]}))


def nested(*children: Any) -> str:
    return json.dumps([1, container("builtins.tuple", "null", *children)])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target", "torch.ops.aten.linear.default"),
        ("target", "torch.ops.aten.__and__.Tensor"),
        ("target", "torch.ops.torchvision.nms.default"),
        ("target", "torch.ops.higher_order.cond"),
        ("target", "_operator.getitem"),
        ("name", "p_layers_0_weight"),
        ("parameter_name", "layers.0.my-block.weight"),
        ("fqn", ""),
        ("forward_arg_names", None),
        ("forward_arg_names", ["image", "mask_2"]),
        ("in_spec", json.dumps([1, LEAF])),
        ("in_spec", nested(container("builtins.tuple", "null", LEAF), container("builtins.dict", '["mask"]', LEAF))),
        ("out_spec", nested(container("collections.OrderedDict", '["out", 3]', LEAF, LEAF))),
    ],
)
def test_what_ordinary_programs_hold_passes(key: str, value: Any) -> None:
    assert faults(**{key: value}) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("target", "torch.hub.load"),
        ("target", "torch.ops.aten.linear.default.__init__.__globals__.get"),
        ("target", "torch.ops.higher_order.call_torchbind"),
        ("as_operator", "torch.hub.load"),
        ("name", "x = 1"),
        ("parameter_name", 'weight", print()) or ("'),
        ("buffer_name", "a\nb"),
        ("fqn", "a b"),
        ("forward_arg_names", ["x=print()"]),
        ("forward_arg_names", {"x=print()": 0}),
        ("forward_arg_names", ["lambda"]),
        ("forward_arg_names", [1]),
        ("forward_arg_names", 1),
        ("in_spec", ""),
        ("in_spec", "[1, []]"),
        ("in_spec", nested(container("builtins.dict", '["x=print()"]', LEAF))),
        ("in_spec", nested(container("builtins.dict", '{"__enum__": true, "fqn": "this:a", "name": "b"}'))),
        ("out_spec", nested(container("collections.defaultdict", {"default_factory_module": "os"}))),
        ("out_spec", nested(container("collections.namedtuple", '"Pair"'))),
    ],
)
def test_what_torch_would_run_or_import_is_a_fault(key: str, value: Any) -> None:
    assert len(faults(**{key: value})) == 1
