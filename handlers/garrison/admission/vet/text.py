"""The text of a file, before it is parsed: bytes enter, text that reads as it runs leaves.

Python accepts more than a person sees: other encodings named in a comment, characters that turn the direction of
writing (CVE-2021-42574), letters that become others, lines that an editor does not break where Python does.
"""

import ast
import io
import re
import tokenize
import unicodedata
from collections.abc import Iterator

from garrison.admission.vet import rules
from garrison.admission.vet.code import Code
from garrison.admission.vet.fault import DYNAMIC, HIDDEN, NOT_PYTHON, TOO_LARGE, Fault, fault

MAX_BYTES = 256 * 2**10  # the longest single-file networks have a tenth of it
MAX_LINE = 4000  # a list of labels may be one line
MAX_GAP = 100  # blanks before code push it out of sight
MAX_NODES = 100_000
MAX_DEPTH = 200
CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
UTF8 = (b"utf-8", b"utf8", b"utf_8", b"ascii", b"us-ascii")
MAX_ESCAPES = 4  # of printable letters, in one literal: "\x65\x76\x61\x6c"
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u00([0-9a-fA-F]{2})|U000000([0-9a-fA-F]{2})|([0-7]{2,3})|N\{)")
ENCODED = re.compile(r"[A-Za-z0-9+/=_\-\s\\x]{200,}")
MAX_BYTES_LITERAL = 256
MAX_INT_BITS = 128
MAX_CHARACTER_NUMBERS = 8
HIDDEN_NAMES = rules.HIDDEN_NAMES - rules.HARMLESS_NAMES


def check_text(source: bytes) -> Iterator[Fault]:
    """Check the bytes of a file: size, encoding, and characters that hide what is written."""
    if len(source) > MAX_BYTES:
        yield Fault(0, TOO_LARGE, f"{len(source)} of at most {MAX_BYTES} bytes: put tables into a file of the model")
        return
    for number, start in enumerate(source.split(b"\n")[:2], 1):
        if (found := CODING.match(start)) and found[1].lower() not in UTF8:
            yield Fault(
                number, HIDDEN, f"written as {found[1].decode('ascii', 'replace')[:30]}: save the file as UTF-8"
            )
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Fault(source[: error.start].count(b"\n") + 1, NOT_PYTHON, "not UTF-8: save the file as UTF-8")
        return
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        yield from _check_line(line, number)


def _check_line(line: str, number: int) -> Iterator[Fault]:
    if len(line) > MAX_LINE:
        yield Fault(number, HIDDEN, f"a line of {len(line)} of at most {MAX_LINE} characters: break it")
    if " " * MAX_GAP in line.strip():
        yield Fault(number, HIDDEN, f"{MAX_GAP} blanks inside a line: what follows is out of sight; leave them out")
    hidden = sorted({f"U+{ord(one):04X}" for one in line if _is_hidden(one)})
    if hidden:
        told = "that a reader does not see, or that change the order of what he sees"
        yield Fault(number, HIDDEN, f"the characters {', '.join(hidden[:5])}, {told}: leave them out, or escape them")


def _is_hidden(character: str) -> bool:
    if character == "\t" or " " <= character <= "~":
        return False
    return (
        unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
        or character in "\u3164\uffa0\u115f\u1160"
    )


def check_tokens(text: str) -> Iterator[Fault]:
    """Check how names and literals are written."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME and not token.string.isascii():
                yield from _check_spelling(token)
            elif token.type == tokenize.STRING:
                yield from _check_escapes(token)
    except (tokenize.TokenError, SyntaxError) as error:
        yield Fault(0, NOT_PYTHON, f"cannot be read as Python ({str(error)[:100]})")


def _check_spelling(token: tokenize.TokenInfo) -> Iterator[Fault]:
    name = token.string
    scripts = {unicodedata.name(one, "?").split()[0] for one in name if one.isalpha()}
    if unicodedata.normalize("NFKC", name) != name:
        yield Fault(token.start[0], HIDDEN, "a name that Python reads as another one: write it in plain letters")
    elif len(scripts - {"GREEK"}) > 1:
        yield Fault(token.start[0], HIDDEN, "a name that mixes letters of several scripts: write it in plain letters")


def _check_escapes(token: tokenize.TokenInfo) -> Iterator[Fault]:
    prefix = token.string[: token.string.index(token.string.lstrip("rRbBuUfF")[0])]
    if "r" in prefix.lower():
        return
    hidden = 0
    for found in ESCAPE.finditer(token.string.replace("\\\\", "")):
        code = found[1] or found[2] or found[3]
        value = int(code, 16) if code else int(found[4], 8) if found[4] else 0x41
        hidden += 0x20 <= value <= 0x7E
    if hidden > MAX_ESCAPES:
        yield Fault(token.start[0], HIDDEN, "plain letters are written as escapes: write them as they are")


def check_size(tree: ast.Module) -> Iterator[Fault]:
    """Check that a tree is not deeper or larger than code that a person wrote."""
    level: list[ast.AST] = [tree]
    nodes = 0
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        nodes += len(level)
        if nodes > MAX_NODES:
            yield Fault(0, TOO_LARGE, f"more than {MAX_NODES} parts: put tables into a file of the model")
            return
        if not level:
            return
    yield Fault(getattr(level[0], "lineno", 0), TOO_LARGE, f"nested more than {MAX_DEPTH} deep: write it in steps")


def check_literal(node: ast.AST, code: Code) -> Iterator[Fault]:
    """Check literals for what is packed into them: encoded text, and names that lead into Python itself."""
    if isinstance(node, ast.Constant) and not isinstance(code.parents.get(node), ast.Expr):
        value = node.value
        if isinstance(value, str):
            yield from _check_string(node, value)
        elif isinstance(value, bytes) and len(value) > MAX_BYTES_LITERAL:
            yield fault(node, HIDDEN, f"{len(value)} bytes in the code: put data into a file of the model")
        elif isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            yield fault(node, HIDDEN, f"a number of {value.bit_length()} bits: put data into a file of the model")
    elif isinstance(node, ast.Call):
        yield from _check_built_text(node, code)


def _check_string(node: ast.Constant, value: str) -> Iterator[Fault]:
    if ENCODED.fullmatch(value) and len(set(value)) > 8 and len(value.split()) * 20 < len(value):
        yield fault(node, HIDDEN, f"{len(value)} characters that look encoded: put data into a file of the model")
    if "__" in value and (found := sorted(name for name in HIDDEN_NAMES if name in value)):
        yield fault(node, DYNAMIC, f"the text {found[0]}: such names lead into Python itself; leave it out")


def _check_built_text(node: ast.Call, code: Code) -> Iterator[Fault]:
    """Check for text that is built of the numbers of its letters."""
    numbers: list[ast.AST] = []
    if code.is_builtin(node.func, "bytes", "bytearray") and node.args:
        numbers = [
            one for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant) and isinstance(one.value, int)
        ]
    elif isinstance(node.func, ast.Attribute) and node.func.attr == "join":
        numbers = [one for argument in node.args if _uses_chr(argument, code) for one in ast.walk(argument)
                   if isinstance(one, ast.Constant) and isinstance(one.value, int)]  # fmt: skip
    elif code.is_builtin(node.func, "chr") and node.args and isinstance(node.args[0], ast.Constant):
        parent = code.parents[node]
        if isinstance(parent, ast.BinOp) and chr(_number(node.args[0]) % 0x80).isalnum():
            yield fault(node, HIDDEN, "text is put together from numbers of letters: write it as it is")
    if len(numbers) >= MAX_CHARACTER_NUMBERS:
        yield fault(node, HIDDEN, "text is put together from numbers of letters: write it as it is")


def _uses_chr(node: ast.AST, code: Code) -> bool:
    return any(isinstance(one, ast.Name) and code.is_builtin(one, "chr") for one in ast.walk(node))


def _number(node: ast.Constant) -> int:
    return node.value if isinstance(node.value, int) else -1
