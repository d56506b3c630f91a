"""Say what a contract with inputs promises: a contract enters, plain values or plain words leave."""

import json
from typing import Any

from garrison.contract import Contract, Explanations, ImageInput, Input, TableInput, TensorInput, TextInput

ANSWERS = {  # task: what its answer looks like
    "image-classification": '{"label": score, ...}, the best first',
    "object-detection": '[{"label": [x1, y1, x2, y2], "score": score}, ...], the best first, in pixels as sent',
    "image-segmentation": "[[[class, score], ...], ...], rows of pixels",
    "text-classification": '{"label": score, ...}, the best first',
    "tensor": "nested lists of numbers",
    "custom": "as the model's author says",
}
LABEL_ONLY_ANSWERS = {
    "image-classification": '["label", ...], the best first',
    "object-detection": '[{"label": [x1, y1, x2, y2]}, ...], the best first, in whole pixels as sent',
    "image-segmentation": "[[class, ...], ...], rows of pixels",
    "text-classification": '["label", ...], the best first',
}
ATTRIBUTIONS = {  # task: what its explanation says beside label and score
    "image-classification": "{grid} rows of {grid} cells",
    "text-classification": "[token, number] for each token",
    "tabular": "an object of columns",
    "tensor": "nested lists in the shape of the input",
}
MAX_SHOWN_COLUMNS = 8


def describe_contract(contract: Contract) -> dict[str, Any]:
    """Return what a client needs to know, as values for JSON."""
    return {
        "model": contract.model,
        "version": contract.version,
        "task": contract.task,
        "request": {
            "method": "POST",
            "path": f"/predictions/{contract.model}",
            "max_body_bytes": contract.max_body_bytes,
            "max_instances": contract.batch.max_instances,
        },
        "inputs": {item.name: _describe_input(item) for item in contract.inputs},
        "answer": {
            "form": _answer_form(contract),
            "top_k": contract.outputs.top_k,
            "decimals": contract.outputs.decimals,
            "min_score": contract.outputs.min_score,
            "label_only": contract.outputs.label_only,
            "max_bytes": contract.outputs.max_bytes,
        },
        "explanations": _describe_explanations(contract),
        "timeout_s": contract.workers.timeout_s,
    }


def describe_in_words(contract: Contract) -> str:
    """Return the same as a page for a person, with a request to copy."""
    lines = [
        f"{contract.model}, version {contract.version}: {contract.task}",
        "",
        f"request   POST /predictions/{contract.model}, key in the header x-api-key",
        *_list_bodies(contract),
    ]
    for item in contract.inputs:
        heading = item.name if len(contract.inputs) > 1 else _describe_input(item)["kind"]
        first, *further = _say_input(item)
        lines += [f"{heading:<9} {first}", *(f"{'':<9} {line}" for line in further)]
    policy = contract.outputs
    lines += [
        f"answer    {_answer_form(contract)}",
        f"          at most {policy.top_k} label(s), {policy.decimals} decimals, scores of at least {policy.min_score}",
        f"          at most {policy.max_bytes:,} bytes",
        *_say_explanations(contract),
        f"time      at most {contract.workers.timeout_s} s",
        "",
        f"example   {_example(contract)}",
    ]
    return "\n".join(lines)


def _answer_form(contract: Contract) -> str:
    if contract.task == "tabular":
        labelled = (
            ANSWERS["image-classification"]
            if not contract.outputs.label_only
            else LABEL_ONLY_ANSWERS["image-classification"]
        )
        return labelled if contract.outputs.labels else "a number, or a list of numbers"
    if contract.outputs.label_only and contract.task in LABEL_ONLY_ANSWERS:
        return LABEL_ONLY_ANSWERS[contract.task]
    return ANSWERS[contract.task]


def _describe_explanations(contract: Contract) -> dict[str, Any] | None:
    section = contract.explanations
    if section is None:
        return None
    return {
        "method": "POST",
        "path": f"/explanations/{contract.model}",
        "by": section.method,
        "max_evaluations": section.max_evaluations,
        "form": _explanation_form(contract, section),
    }


def _explanation_form(contract: Contract, section: Explanations) -> str:
    attributions = ATTRIBUTIONS[contract.task].format(grid=section.grid)
    return f'{{"label": best, "score": score, "attributions": {attributions}}}'


def _say_explanations(contract: Contract) -> list[str]:
    section = contract.explanations
    if section is None:
        return []
    return [
        f"explain   POST /explanations/{contract.model}, with the same bodies, answers by {section.method}",
        f"          {_explanation_form(contract, section)}",
        f"          and costs at most {section.max_evaluations:,} runs of the model",
    ]


def _list_bodies(contract: Contract) -> list[str]:
    one = _example_value(contract)
    bodies = [f"body      at most {contract.max_body_bytes:,} bytes, in one of these forms:"]
    if len(contract.inputs) == 1 and "raw" in contract.inputs[0].forms:
        bodies.append(f"            {_raw_form(contract.inputs[0])}")
    if len(contract.inputs) > 1 or set(contract.inputs[0].forms) - {"raw"}:
        bodies.append(f'            {{"data": {one}}}')
        count = contract.batch.max_instances
        bodies.append(f'            {{"instances": [{one}]}}, at most {count} instance(s), or "inputs" of KServe v2')
    return bodies


def _raw_form(item: Input) -> str:
    return {"image": "the image's bytes", "text": "the text itself, in UTF-8", "tensor": "a .npy file"}[_kind(item)]


def _example(contract: Contract) -> str:
    item = contract.inputs[0]
    curl = f'-H "x-api-key: $KEY" https://HOST/predictions/{contract.model}'
    if len(contract.inputs) > 1 or "raw" not in item.forms:
        return f"curl --json '{{\"data\": {_example_value(contract)}}}' {curl}"
    if isinstance(item, TextInput):
        return f"curl --data-binary 'a text' {curl}"
    return f"curl -X POST -T {'image.' + item.formats[0] if isinstance(item, ImageInput) else 'tensor.npy'} {curl}"


def _example_value(contract: Contract) -> str:
    if len(contract.inputs) == 1:
        return _example_input(contract.inputs[0])
    return "{" + ", ".join(f'"{item.name}": {_example_input(item)}' for item in contract.inputs) + "}"


def _example_input(item: Input) -> str:
    if isinstance(item, TableInput):
        shown = ", ".join(f"{json.dumps(column.name)}: ..." for column in item.columns[:2])
        return "{" + shown + (", ..." if len(item.columns) > 2 else "") + "}"
    if isinstance(item, TextInput):
        return '"a text"'
    if isinstance(item, TensorInput) or "json" not in item.forms:
        return "[...]"
    return '"<base64>"'


def _say_input(item: Input) -> list[str]:
    if isinstance(item, ImageInput):
        return _say_image(item)
    if isinstance(item, TextInput):
        return [
            f"{item.min_characters:,} to {item.max_characters:,} characters, at most {item.max_bytes:,} bytes of UTF-8",
            f"at most {item.max_tokens:,} tokens; becomes {item.normal_form}; no control characters",
        ]
    if isinstance(item, TensorInput):
        return [f"{item.dtype}, shape {_say_shape(item)}{_say_range(item)}"]
    if isinstance(item, TableInput):
        return _say_table(item)
    raise TypeError(type(item).__name__)


def _say_image(image: ImageInput) -> list[str]:
    treatment = (
        f"must be exactly {image.exact[1]} x {image.exact[0]} pixels"
        if image.exact
        else f"is scaled to {image.shape[1]} x {image.shape[0]} pixels"
    )
    return [
        f"{' or '.join(image.formats)}, at most {image.max_bytes:,} bytes",
        f"each side {image.min_side_pixels:,} to {image.max_side_pixels:,} pixels, "
        f"at most {image.max_pixels:,} pixels and {image.max_frames} frame(s)",
        f"becomes {image.colour}, {treatment}",
    ]


def _say_table(table: TableInput) -> list[str]:
    lines = [f"{len(table.columns)} column(s), as an object by name or as a list in this order:"]
    for column in table.columns[:MAX_SHOWN_COLUMNS]:
        allowed = (
            " or ".join(column.categories[:5]) if column.categories else f"{column.minimum:g} to {column.maximum:g}"
        )
        more = ", ..." if len(column.categories) > 5 else ""
        lines.append(
            f"  {column.name}: {column.kind}, {allowed}{more}{'' if column.missing is None else ', may be missing'}"
        )
    hidden = len(table.columns) - MAX_SHOWN_COLUMNS
    return [*lines, f"  and {hidden} more: see --json"] if hidden > 0 else lines


def _say_shape(tensor: TensorInput) -> str:
    return " x ".join(f"{low}" if low == high else f"{low}..{high}" for low, high in tensor.shape)


def _say_range(tensor: TensorInput) -> str:
    low = "" if tensor.minimum is None else f", at least {tensor.minimum:g}"
    return low + ("" if tensor.maximum is None else f", at most {tensor.maximum:g}")


def _kind(item: Input) -> str:
    kinds = {ImageInput: "image", TextInput: "text", TensorInput: "tensor", TableInput: "table"}
    return kinds[type(item)]


def _describe_input(item: Input) -> dict[str, Any]:
    common = {"kind": _kind(item), "forms": list(item.forms), "max_bytes": item.max_bytes}
    if isinstance(item, ImageInput):
        return common | _describe_image(item)
    if isinstance(item, TextInput):
        return common | {
            "min_characters": item.min_characters,
            "max_characters": item.max_characters,
            "max_tokens": item.max_tokens,
            "normal_form": item.normal_form,
        }
    if isinstance(item, TensorInput):
        shape = [list(bounds) for bounds in item.shape]
        return common | {"dtype": item.dtype, "shape": shape, "min": item.minimum, "max": item.maximum}
    if isinstance(item, TableInput):
        return common | {"columns": {column.name: _describe_column(column) for column in item.columns}}
    raise TypeError(type(item).__name__)


def _describe_column(column: Any) -> dict[str, Any]:
    allowed = (
        {"categories": list(column.categories)} if column.categories else {"min": column.minimum, "max": column.maximum}
    )
    return {"kind": column.kind, **allowed, "may_be_missing": column.missing is not None}


def _describe_image(image: ImageInput) -> dict[str, Any]:
    return {
        "formats": list(image.formats),
        "min_side": image.min_side_pixels,
        "max_side": image.max_side_pixels,
        "max_pixels": image.max_pixels,
        "max_frames": image.max_frames,
        "colour": image.colour,
        "shape": list(image.shape),
        "resized": image.resize is not None,
    }
