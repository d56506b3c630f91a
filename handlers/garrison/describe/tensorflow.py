"""Say what a contract with signatures promises, in the terms of TensorFlow Serving's REST API and gRPC."""

from collections.abc import Iterator
from typing import Any

from garrison.contract import (
    BytesElement,
    Contract,
    ExampleElement,
    ImageElement,
    Input,
    Output,
    Signature,
    StringInput,
    TensorInput,
    TextElement,
)

PREDICT, SERVING_DEFAULT = "predict", "serving_default"
SERVICE = "/tensorflow.serving.PredictionService"
GRPC_METHODS = {PREDICT: "Predict", "classify": "Classify", "regress": "Regress"}
ANSWERS = {  # method: the answer to rows
    PREDICT: '{"predictions": [ROW, ...]}',
    "classify": '{"results": [[["label", score], ...], ...]}, a list for each example',
    "regress": '{"results": [number, ...]}, one for each example',
}
KINDS = {TextElement: "text", ImageElement: "image", BytesElement: "bytes", ExampleElement: "example"}
INDENT = 10


def describe_contract(contract: Contract) -> dict[str, Any]:
    """Return what a client needs to know, as values for JSON."""
    return {
        "model": contract.model,
        "version": contract.version,
        "version_labels": list(contract.version_labels),
        "task": contract.task,
        "request": {
            "method": "POST",
            "paths": list(_list_paths(contract)),
            "grpc": f"{SERVICE}/METHOD",
            "max_body_bytes": contract.max_body_bytes,
            "max_instances": contract.batch.max_instances,
        },
        "signatures": {signature.name: _describe_signature(signature) for signature in contract.signatures},
        "answer": {"max_bytes": contract.outputs.max_bytes},
        "timeout_s": contract.workers.timeout_s,
    }


def describe_in_words(contract: Contract) -> str:
    """Return the same as a page for a person, with a request to copy."""
    first, *further = _list_paths(contract)
    lines = [
        f"{contract.model}, version {contract.version}: {contract.task}",
        "",
        f"request   POST {first}, key in the header x-api-key",
        *_indent(f"or {path}" for path in further),
        f"gRPC      {SERVICE}/METHOD, model_spec.name {contract.model}, key in the metadata x-api-key",
        f"body      at most {contract.max_body_bytes:,} bytes",
        f"answer    at most {contract.outputs.max_bytes:,} bytes",
        f"time      at most {contract.workers.timeout_s} s",
    ]
    for signature in sorted(contract.signatures, key=lambda one: one.name != SERVING_DEFAULT):
        lines += ["", *_say_signature(signature, contract)]
    return "\n".join([*lines, "", f"example   {_example(contract)}"])


def _list_paths(contract: Contract) -> Iterator[str]:
    """Go through the paths at which a model is asked; METHOD stands for a signature's."""
    path = f"/v1/models/{contract.model}"
    methods = {signature.method for signature in contract.signatures}
    method = methods.pop() if len(methods) == 1 else "METHOD"
    yield f"{path}:{method}"
    yield f"{path}/versions/{contract.version}:{method}"
    for label in contract.version_labels:
        yield f"{path}/labels/{label}:{method}"


def _say_signature(signature: Signature, contract: Contract) -> Iterator[str]:
    yield f"{signature.name}: {signature.method}, gRPC {GRPC_METHODS[signature.method]}"
    yield from (f"  body    {form}" for form in _list_bodies(signature, contract))
    for item in signature.inputs:
        first, *further = _say_input(item)
        yield f"  in      {item.name}: {first}"
        yield from _indent(further)
    for output in signature.outputs:
        yield f"  out     {output.name}: {_say_output(output)}"
    yield f"  answer  {_answer(signature)}"


def _list_bodies(signature: Signature, contract: Contract) -> Iterator[str]:
    named = "" if signature.name == SERVING_DEFAULT else f'"signature_name": "{signature.name}", '
    rows = f"at most {contract.batch.max_instances} row(s)"
    if signature.method != PREDICT:
        yield f'{{{named}"examples": [{_example_features(signature)}, ...]}}, {rows}'
        return
    if signature.batched:
        yield f'{{{named}"instances": [{_example_row(signature)}, ...]}}, {rows}'
    inputs = ", ".join(f'"{item.name}": {_example_column(item, signature)}' for item in signature.inputs)
    told = f", {rows}" if signature.batched else ", each the whole tensor"
    yield f'{{{named}"inputs": {{{inputs}}}}}{told}'


def _answer(signature: Signature) -> str:
    if signature.method == PREDICT and not signature.batched:
        return '{"outputs": ...}'
    also = ', or {"outputs": ...} to inputs' if signature.method == PREDICT else ""
    return ANSWERS[signature.method] + also


def _example(contract: Contract) -> str:
    signature = min(contract.signatures, key=lambda one: one.name != SERVING_DEFAULT)
    body = next(_list_bodies(signature, contract)).rpartition(", ")[0].replace(", ...]", "]")
    body = body.removesuffix(", each the whole tensor")
    return f"curl --json '{body}' -H \"x-api-key: $KEY\" https://HOST/v1/models/{contract.model}:{signature.method}"


def _example_row(signature: Signature) -> str:
    if len(signature.inputs) == 1:
        return _example_value(signature.inputs[0])
    return "{" + ", ".join(f'"{item.name}": {_example_value(item)}' for item in signature.inputs) + "}"


def _example_column(item: Input, signature: Signature) -> str:
    return f"[{_example_value(item)}, ...]" if signature.batched else _example_value(item)


def _example_features(signature: Signature) -> str:
    (item,) = signature.inputs
    features = _features(item)
    return "{" + ", ".join(f'"{feature.name}": {_example_value(feature)}' for feature in features) + "}"


def _example_value(item: Input) -> str:
    value = {"tensor": "...", "text": '"a text"'}.get(_kind(item), '{"b64": "..."}')
    return f"[{value}]" if _shape(item) else value


def _say_input(item: Input) -> list[str]:
    shape = _say_shape(item)
    if isinstance(item, TensorInput):
        low = "" if item.minimum is None else f", at least {item.minimum:g}"
        return [f"{item.dtype}{shape}{low}" + ("" if item.maximum is None else f", at most {item.maximum:g}")]
    element, most = _element(item), f"at most {_element(item).max_bytes:,} bytes"
    if isinstance(element, TextElement):
        characters = f"{element.min_characters:,} to {element.max_characters:,} characters"
        return [f"text{shape}, {characters}, {most} of UTF-8; becomes {element.normal_form}"]
    if isinstance(element, ImageElement):
        sides = f"each side {element.min_side_pixels:,} to {element.max_side_pixels:,} pixels"
        return [
            f"image{shape}, {' or '.join(element.formats)}, {most}",
            f"{sides}, at most {element.max_pixels:,} pixels and {element.max_frames} frame(s)",
        ]
    if isinstance(element, BytesElement):
        return [f"bytes{shape}, {element.min_bytes:,} to {element.max_bytes:,} bytes"]
    told = [f"{feature.name}: {line}" for feature in element.features for line in _say_input(feature)[:1]]
    return [f"tf.Example{shape}, {most}, with these features:", *told]


def _say_output(output: Output) -> str:
    shape = "" if not output.shape else ", shape " + " x ".join("any" if n is None else str(n) for n in output.shape)
    return f"{output.dtype}{shape}" + ("" if output.decimals is None else f", {output.decimals} decimals")


def _say_shape(item: Input) -> str:
    bounds = _shape(item)
    return ", shape " + " x ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in bounds) if bounds else ""


def _describe_signature(signature: Signature) -> dict[str, Any]:
    return {
        "method": signature.method,
        "grpc": f"{SERVICE}/{GRPC_METHODS[signature.method]}",
        "batched": signature.batched,
        "inputs": {item.name: _describe_input(item) for item in signature.inputs},
        "outputs": {
            output.name: {"dtype": output.dtype, "shape": list(output.shape), "decimals": output.decimals}
            for output in signature.outputs
        },
    }


def _describe_input(item: Input) -> dict[str, Any]:
    common: dict[str, Any] = {"kind": _kind(item), "shape": [list(bounds) for bounds in _shape(item)]}
    if isinstance(item, TensorInput):
        return common | {"dtype": item.dtype, "min": item.minimum, "max": item.maximum}
    element = _element(item)
    values = {key: value for key, value in vars(element).items() if key != "features"}
    common |= {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    if isinstance(element, ExampleElement):
        common["features"] = {feature.name: _describe_input(feature) for feature in element.features}
    return common


def _kind(item: Input) -> str:
    return "tensor" if isinstance(item, TensorInput) else KINDS[type(_element(item))]


def _shape(item: Input) -> tuple[tuple[int, int], ...]:
    return item.shape if isinstance(item, TensorInput | StringInput) else ()


def _element(item: Input) -> Any:
    return item.element if isinstance(item, StringInput) else None


def _features(item: Input) -> tuple[Input, ...]:
    element = _element(item)
    return element.features if isinstance(element, ExampleElement) else ()


def _indent(lines: Any) -> Iterator[str]:
    return (f"{'':<{INDENT}}{line}" for line in lines)
