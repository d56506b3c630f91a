"""Check the code of a TorchScript archive: its source enters, findings leave.

TorchScript is a program in a small language that looks like Python, run by torch's own interpreter; it reaches the
machine only through operators. Here it is parsed as Python, which the exporter's output is, and everything that could
reach an operator is judged:

    torch.NAME, ops.SPACE.NAME, x.NAME     the spaces by allow-list; in them, what reads or writes files, prints,
                                           profiles, or calls other processes or Python is refused
    __torch__.torch.classes.SPACE.NAME     objects written in C++, by allow-list of their spaces

The lists are held against the operators that torch registers by a test (torch 2.13: 1,730 in `aten`, 100 in `prim`).
What the code computes, or how long, is not judged.
"""

import ast
import re
from collections.abc import Iterator

from garrison.admission.findings import Finding

MAX_CODE_BYTES = 8 * 2**20  # of one source file; a large traced network has 1 MB
OPERATOR_SPACES = {
    "aten", "prim", "prims", "quantized", "quantized_decomposed", "torchvision", "sparse", "mkldnn_prepacked",
}  # fmt: skip
CLASS_SPACES = {"quantized", "rnn", "sparse", "mkldnn", "xnnpack"}
FORBIDDEN_OPERATORS = {
    "from_file", "save", "load", "_print", "Print", "print", "PythonOp", "IgnoredPythonOp", "CallFunction",
    "TimePoint", "record_stream", "rpc_async", "rpc_sync", "rpc_remote", "profile", "profile_ivalue",
    "_record_function_enter", "_record_function_enter_new", "_record_function_exit", "_call_end_callbacks_on_jit_fut",
}  # fmt: skip
FORBIDDEN_METHODS = {"from_file", "save"}
_BARE_SPACES = {"torch", "ops"}
_EVERYWHERE = re.compile(  # whatever the parser saw: names that no ordinary network has in any form
    r"\b(aten|torch|ops\.[a-z_]+)\.(from_file|save)\(|\b(profiler|c10d|dist_rpc|inductor|_TorchScriptTesting)\.|\brpc_(a?sync|remote)\b"
)


def check_script(source: bytes, name: str) -> list[Finding]:
    """Return what speaks against one source file of a TorchScript archive."""
    if len(source) > MAX_CODE_BYTES:
        return [Finding(name, "not_scannable", f"larger than {MAX_CODE_BYTES} bytes; script smaller modules")]
    try:
        text = source.decode()
        tree = ast.parse(text)
        reached = {dotted for node in ast.walk(tree) for dotted in _names_of(node)}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return [Finding(name, "not_scannable", f"not as torch.jit.save writes it ({type(error).__name__})")]
    bare = re.sub(r"\s+|\\\n", "", text)
    reached.update(match[0] for match in _EVERYWHERE.finditer(bare))
    return [
        Finding(name, "forbidden_operator", f"the code uses {dotted[:120]}, which reaches beyond tensors; leave it out")
        for dotted in sorted(reached)
        if _is_forbidden(dotted)
    ]


def _names_of(node: ast.AST) -> Iterator[str]:
    """Go through what a node may reach, as dotted names: attributes, and functions called by a bare name."""
    if isinstance(node, ast.Attribute):
        yield _dotted(node)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        yield node.func.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield "import"


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "")
    return ".".join(reversed(parts))


def _is_forbidden(dotted: str) -> bool:
    if _EVERYWHERE.match(dotted):
        return True
    root, *rest = dotted.split(".")
    if root == "ops" and rest and rest[0] not in OPERATOR_SPACES:
        return True
    if root == "__torch__":
        return rest[:2] == ["torch", "classes"] and len(rest) > 2 and rest[2] not in CLASS_SPACES
    if root in ("import", "print"):
        return True
    # A tensor's methods are operators, too; whether `x` is a tensor is not known here.
    in_a_space = root in _BARE_SPACES
    return bool(rest) and rest[-1] in (FORBIDDEN_OPERATORS if in_a_space else FORBIDDEN_METHODS)
