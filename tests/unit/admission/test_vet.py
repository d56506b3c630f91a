"""What handler code may and may not say, rule by rule."""
# ruff: noqa: E501 - one case a line

import ast
import importlib
import sys
import types
import warnings
from pathlib import Path

import pytest

from garrison.admission.findings import Finding, refusals
from garrison.admission.vet import MAX_FINDINGS, linter, rules, vet_files, vet_source
from garrison.admission.vet.allowed import read_standing_list
from garrison.admission.vet.text import MAX_BYTES, MAX_DEPTH, MAX_LINE
from garrison.torchserve import base

NOT_INSTALLED = ("torchvision",)
NEVER_LISTED = """torch.load torch.save torch.jit.load torch.jit.save torch.jit.script torch.from_file torch.compile
    torch.import_ir_module numpy.load numpy.save numpy.fromfile numpy.memmap numpy.genfromtxt numpy.loadtxt io.open io.FileIO
    typing.get_type_hints typing.ForwardRef functools.singledispatch operator.attrgetter operator.methodcaller
    string.Formatter logging.FileHandler dataclasses.make_dataclass enum.EnumMeta enum.EnumType types.FunctionType
    PIL.Image.core PIL.ImageMath.eval functools.update_wrapper numpy.lib.stride_tricks.as_strided
    torch.utils.data.DataLoader"""
NO_MODULES_TO_IMPORT = {"torch.backends.cuda.matmul"}


def rules_of(code: str | bytes, imports=()) -> set[str]:
    source = code.encode() if isinstance(code, str) else code
    return {finding.rule for finding in vet_source(source, "handler.py", imports)}


ALLOWED = {
    "import": "import torch.nn.functional as F\nF.relu",
    "import-in-function": "def f():\n    import math\n    return math.pi",
    "import-or-none": "try:\n    import torchvision\nexcept ImportError:\n    torchvision = None",
    "module-by-another-name": "import torch\nnn = torch.nn\nnn.Linear(1, 1)",
    "type-checking": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pathlib import Path\ndef f(x: 'Path'): ...",
    "path-in-annotation": "from pathlib import Path\ndef f(x: Path) -> Path: ...",
    "input-as-a-variable": "def forward(input, vars=None):\n    id = input\n    return input(id)",
    "method-named-eval": "class A:\n    def eval(self): ...\n    def f(self):\n        return self.eval()",
    "own-private-attribute": "class A:\n    def __init__(self):\n        self._x = 1\n    def f(self):\n        return self._x",
    "class-private-attribute": "class A:\n    _count = 0\nA._count",
    "class-name": "class A:\n    def __repr__(self):\n        return self.__class__.__name__ + type(self).__name__",
    "explicit-base-init": "from torch import nn\nclass A(nn.Module):\n    def __init__(self):\n        nn.Module.__init__(self)",
    "old-super": "from torch import nn\nclass A(nn.Module):\n    def __init__(self):\n        super(A, self).__init__()",
    "frozen-dataclass": "class A:\n    def __post_init__(self):\n        object.__setattr__(self, 'x', 1)",
    "branch-removed": "class A:\n    def fuse(self):\n        self.__delattr__('bn')",
    "getattr-of-a-literal": "def f(x):\n    return getattr(x, 'bias', None)",
    "named-tuple": "def f(x):\n    return x._replace(a=1)._asdict()",
    "format-of-a-literal": "'{:.2f} {name[0]} {0}'.format(1, name='a')",
    "format-of-a-constant": "TEXT = 'a {x}'\ndef f():\n    return TEXT.format(x=1)",
    "replace-text": "'a'.replace('a', 'b')",
    "match-group": "import re\nre.compile('a').match('a').group(1)",
    "type-compared": "def f(x):\n    return type(x) is int or isinstance(x, type) or type(x) == str",
    "type-shown": "def f(x):\n    raise TypeError(f'{type(x)} {type(x).__name__}')",
    "made-again": "class A:\n    def copy(self):\n        return type(self)(1)",
    "decorators": "import functools\n@functools.lru_cache(maxsize=1)\ndef f(): ...",
    "own-decorator-inside": "def g(f): ...\ndef h():\n    @g\n    def f(): ...",
    "property-setter": "class A:\n    @property\n    def x(self): ...\n    @x.setter\n    def x(self, v): ...",
    "table-by-function": "def make():\n    return {}\nTABLE = make()",
    "constant-of-own-dataclass": "from dataclasses import dataclass\n@dataclass\nclass C:\n    x: int = 1\nC(2)",
    "lookup-with-functions": "TABLE = {'a': lambda x: x}\nTABLE['a'].__name__",
    "main-block": "def main(): ...\nif __name__ == '__main__':\n    main()",
    "escape-codes": "X = '\\x1b\\x00\\u2028\\n'",
    "greek-letters": "\u03c3 = 1\nfor é in []:\n    pass",
    "emoji-in-text": "X = '🙂 漢字 é'",
    "byte-order-mark": "\ufeffX = 1",
    "windows-lines": "X = 1\r\nY = 2\r\n",
    "utf-8-cookie": "# -*- coding: utf-8 -*-\nX = 1",
    "global": "COUNT = 0\ndef f():\n    global COUNT\n    COUNT += 1",
    "comprehension-variable": "X = [a for a in range(3) if (b := a)]",
    "fastest-kernels": "import torch\ntorch.backends.cudnn.benchmark = True",
    "enum": "from enum import Enum\nclass E(Enum):\n    A = 1\nE('A')",
    "array-by-another-name": "import numpy as np\nArray = np.ndarray\ndef f(x: Array):\n    return isinstance(x, Array)",
    "arrays-in-types": "import numpy as np\nfrom typing import Dict, Union\nA = Union[np.ndarray, int]\ndef f(x: Dict[str, np.ndarray]):\n    return isinstance(x, (np.ndarray, type(None)))",
    "labels-of-fasttext": "def f(x):\n    return x.replace('__label__', '')",
    "initial-by-class-name": "def f(m):\n    return m.__class__.__name__.find('Conv')",
    "sorted-labels": "LABELS = sorted({'b': 1}, key=lambda x: x)",
    "tables-by-function": "def make(n):\n    return n\nTABLE = {i: make(i) for i in range(3)}",
    "namespace": "from types import SimpleNamespace\nCONFIG = SimpleNamespace(a=1)",
    "dataclass-with-checks": "from dataclasses import dataclass\n@dataclass\nclass C:\n    x: int = 1\n    def __post_init__(self): ...\nCONFIG = C()",
    "version": "import torch\ntorch.__version__.split('.')",
}  # fmt: skip


@pytest.mark.parametrize("code", ALLOWED.values(), ids=ALLOWED)
def test_ordinary_code_passes(code):
    assert vet_source(code.encode(), "handler.py") == []


REFUSED = {
    "not-on-the-list": ("import requests", "forbidden_import"),
    "submodule-not-on-the-list": ("import torch.hub", "forbidden_import"),
    "name-not-on-the-list": ("from torch import hub", "forbidden_import"),
    "function-not-on-the-list": ("import torch\ntorch.load", "forbidden_attribute"),
    "module-behind-module": ("import random\nrandom._os", "forbidden_attribute"),
    "module-twice": ("import json\njson = 1", "dynamic_name"),
    "module-sometimes": ("import json\ndef f():\n    global json\n    json = 1", "dynamic_name"),
    "module-deleted": ("import json\ndel json", "dynamic_name"),
    "module-as-a-value": ("import json\nprint(json)", "dynamic_name"),
    "module-by-many-names": (
        "def f():\n    return a30.hub\nimport torch\na0 = torch\n" + "".join(f"a{i + 1} = a{i}\n" for i in range(30)),
        "forbidden_attribute",
    ),
    "module-by-more-names": (
        "def f():\n    return a999.hub\nimport torch\na0 = torch\n" + "".join(f"a{i + 1} = a{i}\n" for i in range(999)),
        "code_too_large",
    ),
    "module-returned": ("import json\ndef f():\n    return json", "dynamic_name"),
    "unknown-name": ("def f():\n    return os", "dynamic_name"),
    "path-made": ("from pathlib import Path\nPath('x')", "forbidden_call"),
    "builtin-although-bound-here": ("def f():\n    return eval\nif 0:\n    eval = 1", "forbidden_call"),
    "builtin-in-class-scope": ("class A:\n    if 0:\n        eval = 1\n    x = eval", "forbidden_call"),
    "builtin-in-nested-function": ("def f():\n    def g():\n        return exec", "forbidden_call"),
    "builtin-in-default": ("def f(x=open): ...", "forbidden_call"),
    "builtin-although-class-variable": ("class A:\n    open = 1\n    def f(self):\n        return open", "forbidden_call"),
    "private-of-another": ("def f(x):\n    return x._y", "forbidden_attribute"),
    "private-of-a-function-named-self": ("def f(self):\n    return self._y\n_y = 1", "forbidden_attribute"),
    "private-unknown": ("class A:\n    def f(self):\n        return self._y", "forbidden_attribute"),
    "private-of-rebound-self": ("class A:\n    def f(self, o):\n        self = o\n        self._y = 1", "forbidden_attribute"),
    "dunder": ("def f(x):\n    return x.__dict__", "forbidden_attribute"),
    "dunder-set": ("class A:\n    def f(self):\n        self.__class__ = A", "forbidden_attribute"),
    "dunder-on-super": ("class A:\n    def f(self):\n        return super().__subclasses__()", "forbidden_attribute"),
    "frame": ("def f(g):\n    return g.gi_frame", "forbidden_attribute"),
    "getattr-computed": ("def f(x, n):\n    return getattr(x, n)", "dynamic_name"),
    "setattr-computed": ("def f(x, n):\n    setattr(x, n, 1)", "dynamic_name"),
    "getattr-starred": ("def f(x):\n    return getattr(*x)", "dynamic_name"),
    "getattr-of-format": ("getattr('{}', 'format')", "forbidden_call"),
    "format-computed": ("def f(x):\n    return x.format(1)", "dynamic_name"),
    "format-of-a-changed-attribute": (
        "class A:\n    T = 'a'\n    def f(self, x):\n        setattr(self, 'T', x)\n        self.T.format(self)",
        "dynamic_name",
    ),
    "format-of-a-field": ("class A:\n    T: str = 'a'\n    def f(self):\n        self.T.format(self)", "dynamic_name"),
    "far-to-the-right": ("X = 1;" + " " * 100 + "Y = 2", "hidden_code"),
    "format-reads-attributes": ("'{0.real}'.format(1)", "forbidden_attribute"),
    "format-nested": ("'{0:{1.real}}'.format(1, 2)", "forbidden_attribute"),
    "format-of-type": ("str.format('{0.real}', 1)", "dynamic_name"),
    "pattern-reads-attributes": ("match 1:\n    case int(__class__=x): ...", "forbidden_attribute"),
    "replace-moves": ("def f(p):\n    p.replace('b')", "forbidden_call"),
    "save": ("def f(x):\n    x.save('b')", "forbidden_call"),
    "save-into-rebound-buffer": (
        "import io\ndef f(x):\n    b = io.BytesIO()\n    b = 'name'\n    x.save(b)",
        "forbidden_call",
    ),
    "type-called": ("def f(x):\n    return type(x)('a', (), {})", "dynamic_name"),
    "type-kept": ("def f(x):\n    y = type(x)\n    return y", "dynamic_name"),
    "class-of-self-kept": ("class A:\n    def f(self):\n        return self.__class__", "forbidden_attribute"),
    "super-of-another": ("def f(x):\n    return super(int, x)", "dynamic_name"),
    "unbound-method": ("class A:\n    def f(self): ...\nA.f(1)", "dynamic_name"),
    "own-metaclass": ("class A(metaclass=type): ...", "forbidden_definition"),
    "class-keywords": ("class A(**{}): ...", "forbidden_definition"),
    "foreign-base": ("import torch\nclass A(torch.Tensor): ...", "forbidden_definition"),
    "computed-base": ("def f(b):\n    class A(b): ...", "forbidden_definition"),
    "enum-without-members": ("from enum import Enum\nclass E(Enum): ...", "forbidden_definition"),
    "async": ("async def f(): ...", "forbidden_definition"),
    "dunder-function": ("def __getattr__(name): ...", "forbidden_definition"),
    "dunder-variable": ("__builtins__ = {}", "forbidden_definition"),
    "dunder-text": ("X = '__glo' '__globals__'", "dynamic_name"),
    "patched-module": ("import torch\ntorch.relu = 1", "forbidden_definition"),
    "patched-by-setattr": ("import torch\nsetattr(torch, 'relu', 1)", "forbidden_definition"),
    "own-decorator": ("def g(f): ...\n@g\ndef f(): ...", "code_at_import"),
    "called-in-class-body": ("def g(): ...\nclass A:\n    x = g()", "code_at_import"),
    "called-in-default": ("def g(): ...\ndef f(x=g()): ...", "code_at_import"),
    "called-in-annotation": ("def g(): ...\ndef f(x: g()): ...", "code_at_import"),
    "called-as-statement": ("def g(): ...\ng()", "code_at_import"),
    "lambda-called": ("(lambda: 1)()", "code_at_import"),
    "own-method-at-import": ("class A:\n    @staticmethod\n    def g(): ...\nA.g()", "code_at_import"),
    "cookie": (b"# vim: set fileencoding=latin-1 :\nX = 1", "hidden_code"),
    "cookie-in-second-line": (b"\n# coding=utf-7\nX = 1", "hidden_code"),
    "not-utf-8": (b"X = '\xff'", "not_python"),
    "no-syntax": ("X = (", "not_python"),
    "digits": ("X = " + "9" * 900, "hidden_code"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "rule"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_and_why(code, rule):
    assert rule in rules_of(code)


def test_a_finding_says_where_why_and_what_instead():
    (finding,) = vet_source(b"import torch\n\nX = torch.zeros(1)\nimport pickle\n", "handler.py")
    assert (finding.file, finding.line, finding.rule) == ("handler.py", 4, "forbidden_import")
    assert finding.severity == "critical"
    assert "imports pickle: use JSON, safetensors, or load_weights" in finding.detail


@pytest.mark.parametrize(
    ("entry", "code", "accepted"),
    [
        pytest.param("scipy", "import scipy.special\nscipy.special.expit(0)", True, id="what-is-below"),
        pytest.param("scipy.special", "from scipy.special import expit", True, id="a-submodule"),
        pytest.param("scipy.special", "import scipy.special\nscipy.special.expit(0)", True, id="through-its-parent"),
        pytest.param("scipy.special", "import scipy.io", False, id="not-its-sibling"),
        pytest.param("scipy.special", "import scipy\nscipy.io", False, id="not-its-siblings-attribute"),
        pytest.param("scipy.special", "import scipy.specialist", False, id="not-a-longer-name"),
        pytest.param("scipy", "import scipy\nscipy._lib", False, id="nothing-private"),
        pytest.param("scipy", "from scipy import os", False, id="no-module-of-the-standard-library"),
        pytest.param("tokenizers", "from tokenizers import Tokenizer\nclass T(Tokenizer): ...", True, id="as-a-base"),
    ],
)
def test_the_operator_adds_modules(entry, code, accepted):
    assert rules_of(code), "refused without the entry"
    assert (rules_of(code, (entry,)) == set()) is accepted


@pytest.mark.parametrize(
    ("make", "limit", "rule"),
    [
        pytest.param(lambda n: "#" + "\n" * (n - 1), MAX_BYTES, "code_too_large", id="bytes"),
        pytest.param(lambda n: "#" * n, MAX_LINE, "hidden_code", id="line"),
        pytest.param(lambda n: "X = " + "-" * (n - 3) + "1", MAX_DEPTH, "code_too_large", id="depth"),
        pytest.param(lambda n: "X = b'" + "a" * n + "'", 256, "hidden_code", id="bytes-literal"),
        pytest.param(lambda n: f"X = {2**n - 1}", 128, "hidden_code", id="number"),
    ],
)
def test_the_limits(make, limit, rule):
    assert rules_of(make(limit)) == set()
    assert rules_of(make(limit + 1)) == {rule}


@pytest.mark.parametrize(
    "code",
    [
        *(f"X = {part * 60_000}1" for part in ("-", "not ", "1+", "2**", "lambda:", "a if b else ")),
        "X = a" + ".b" * 60_000,
        "X = a" + "()" * 60_000,
        "if a: pass\n" + "elif b: pass\n" * 15_000,
        "X = [" + "0," * 60_000 + "]",
        "(" * 100_000,
        "f'" + "{" * 50_000,
        "\n".join(" " * i + "if 1:" for i in range(200)),
        "import os\n" * 20_000,
        "x = 1\n" * 20_000 + "import x\n" + "x\n" * 10_000,
        "class A: pass\n" + "".join(f"class A{i}(A{i - 1 if i else ''}): pass\n" for i in range(5000)) + "import os",
        "class A: pass\nclass B: pass\n"
        + "".join(
            f"class A{i + 1}(A{i or ''}, B{i or ''}): pass\nclass B{i + 1}(A{i or ''}, B{i or ''}): pass\n"
            for i in range(60)
        )
        + "import os",
        "import torch\na0 = torch\n" + "".join(f"a{i + 1} = a{i}{'.nn' * 150}\n" for i in range(60)),
        "if __name__ == '__main__':\n" + " f()\n" * 30_000,
    ],
    ids=lambda code: code[:14],
)
def test_code_that_is_made_to_exhaust_the_reader_is_refused(code):
    found = vet_source(code.encode(), "handler.py")
    assert 0 < len(found) <= MAX_FINDINGS


def test_nothing_is_imported_or_run(tmp_path):
    (tmp_path / "planted.py").write_text("raise SystemExit")
    before = set(sys.modules)
    vet_source(b"import planted\nraise SystemExit\n", str(tmp_path / "handler.py"))
    assert set(sys.modules) == before


# --- the lists ------------------------------------------------------------------------------------------------------------


def test_the_standing_list_names_what_there_is_and_no_modules():
    for module, names in read_standing_list().items():
        if module.startswith(NOT_INSTALLED) or module in NO_MODULES_TO_IMPORT:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = importlib.import_module(module)
            values = {name: getattr(loaded, name) for name in names}
        assert [name for name, value in values.items() if isinstance(value, types.ModuleType)] == [], module


def test_the_standing_list_holds_nothing_that_reaches_files_or_runs_text():
    listed = {f"{module}.{name}" for module, names in read_standing_list().items() for name in names}
    assert listed & set(NEVER_LISTED.split()) == set()
    assert {name for name in listed if name.split(".")[0] in ("os", "sys", "subprocess", "socket", "ctypes")} == set()


def test_the_sealed_names_are_those_of_the_pipeline():
    """Vetting does not import torch, so it keeps a list of its own."""
    assert base.SEALED <= rules.SEALED | rules.SEALED_PRIVATE | rules.SEALED_NATIVE
    assert set(base._NATIVE) <= rules.SEALED_NATIVE


def test_every_method_name_that_may_be_defined_is_one():
    assert all(name.startswith("__") and name.endswith("__") for name in rules.METHODS)
    assert not rules.METHODS & {"__getattr__", "__array_interface__", "__reduce__", "__del__", "__init_subclass__"}


def test_vetting_needs_neither_torch_nor_numpy():
    package = Path(importlib.import_module("garrison.admission.vet").__file__).parent
    for path in package.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & {"torch", "numpy", "PIL"}


# --- files and the linter -------------------------------------------------------------------------------------------------


def write(directory: Path, code: str) -> Path:
    path = directory / "handler.py"
    path.write_text(code)
    return path


def test_the_linter_adds_what_the_policy_does_not_say(tmp_path):
    (finding,) = vet_files([write(tmp_path, "def f(x):\n    assert x\n")])
    assert (finding.rule, finding.severity, finding.line) == ("linter_finding", "warning", 2)
    assert "B101" in finding.detail


def test_one_place_is_reported_once(tmp_path):
    found = vet_files([write(tmp_path, "def f(x):\n    eval(x)  # nosec\n")])
    assert [finding.rule for finding in found] == ["forbidden_call"]


def test_the_authors_comments_do_not_silence_the_linter():
    assert [finding.rule for finding in linter.lint(b"def f(x):\n    eval(x)  # nosec\n", "handler.py")] == [
        "linter_finding"
    ]
    assert refusals(linter.lint(b"import pickle\npickle.loads(b'')  # nosec B301\n", "handler.py"))


def test_a_missing_linter_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(linter.importlib.util, "find_spec", lambda name: None)
    (finding,) = refusals(vet_files([write(tmp_path, "X = 1\n")]))
    assert finding.rule == "linter_failed"
    assert "pip install" in finding.detail


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"not JSON",
        b"[]",
        b'{"results": []}',
        b'{"results": [{}], "errors": []}',
        b'{"errors": [1], "results": []}',
    ],
    ids=repr,
)
def test_a_linter_without_a_report_refuses(monkeypatch, output):
    report = types.SimpleNamespace(stdout=output, stderr=b"", returncode=0)
    monkeypatch.setattr(linter.subprocess, "run", lambda *_, **__: report)
    assert [finding.rule for finding in refusals(linter.lint(b"X = 1\n", "handler.py"))] == ["linter_failed"]


def test_a_linter_that_hangs_refuses(monkeypatch):
    def hang(*arguments, **options):
        raise linter.subprocess.TimeoutExpired("bandit", options["timeout"])

    monkeypatch.setattr(linter.subprocess, "run", hang)
    (finding,) = linter.lint(b"X = 1\n", "handler.py")
    assert (finding.rule, finding.severity) == ("linter_failed", "critical")


@pytest.mark.parametrize("kind", ["missing", "directory", "link-to-a-device"])
def test_what_is_no_plain_file_is_refused(tmp_path, kind):
    path = tmp_path / "handler.py"
    if kind == "directory":
        path.mkdir()
    elif kind == "link-to-a-device":
        path.symlink_to("/dev/zero")
    assert [finding.rule for finding in refusals(vet_files([path]))] == ["unreadable_file"]


def test_several_files_are_reported_by_their_names(tmp_path):
    first, second = tmp_path / "handler.py", tmp_path / "model.py"
    first.write_text("import os\n")
    second.write_text("import sys\n")
    found = vet_files([first, second], linter=False)
    assert [finding.file for finding in found] == [str(first), str(second)]
    assert all(isinstance(finding, Finding) for finding in found)
