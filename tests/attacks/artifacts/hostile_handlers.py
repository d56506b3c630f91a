"""Hostile handlers: what each is, why it is refused, and which of them show that they ran.

A hostile case is a body of `handler.py`. Its payload creates the file CANARY; where that is not what the trick is
about (a file is read, a check is weakened), the case is in `NO_CANARY`. Sources of the tricks: pyjail write-ups
(`__subclasses__`, frames, format strings), RestrictedPython's advisories (CVE-2023-37271 generators' frames,
CVE-2023-41039 str.format, CVE-2024-47532 string.Formatter, CVE-2025-22153 exception groups), CVE-2021-42574 (bidi),
CVE-2022-45907 (torch.jit.annotations evaluates text), CVE-2019-6446 (numpy.load), numpy's array interface.
"""
# ruff: noqa: E501, RUF001, RUF003 - what is written here is data, as its authors would write it

import textwrap
from collections.abc import Callable

IMPORT, CALL, ATTRIBUTE = "forbidden_import", "forbidden_call", "forbidden_attribute"
DEFINITION, AT_IMPORT, DYNAMIC, HIDDEN = "forbidden_definition", "code_at_import", "dynamic_name", "hidden_code"
NOT_PYTHON, TOO_LARGE = "not_python", "code_too_large"

HEAD = """\
import torch

from garrison.torchserve.base import SafeHandler

"""
HANDLER = """

class Own(SafeHandler):
    def load(self, model):
        self.scale = 2.0

    def infer(self, batch):
        return batch * self.scale

    def present(self, output, item):
        return output
"""


def inside(body: str, before: str = "") -> str:
    """Return a handler whose `load` does something."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 8)
    return f"{HEAD}{textwrap.dedent(before)}\n\nclass Own(SafeHandler):\n    def load(self, model):\n{lines}\n"


def above(body: str) -> str:
    """Return a handler with something in front of its class."""
    return HEAD + textwrap.dedent(body) + HANDLER


TOUCH = "__import__('pathlib').Path(CANARY).touch()"
SHELL = "touch "  # followed by the canary

# name -> (acceptable reasons, source)
SOURCES: dict[str, tuple[set[str], str]] = {
    # --- imports --------------------------------------------------------------------------------------------------------
    "os-system": ({IMPORT}, inside("import os\nos.system('touch ' + CANARY)")),
    "os-at-import": ({IMPORT}, above("import os\nos.system('touch ' + CANARY)")),
    "subprocess": ({IMPORT}, inside("import subprocess\nsubprocess.run(['touch', CANARY])")),
    "from-subprocess": ({IMPORT}, inside("from subprocess import Popen as Run\nRun(['touch', CANARY]).wait()")),
    "shutil": ({IMPORT}, inside("import shutil\nshutil.copy('/dev/null', CANARY)")),
    "socket": ({IMPORT}, inside("import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind(CANARY)")),
    "ctypes": ({IMPORT}, inside("import ctypes\nctypes.CDLL(None).creat(CANARY.encode(), 0o600)")),
    "pathlib": ({IMPORT, CALL}, inside("from pathlib import Path\nPath(CANARY).touch()")),
    "tempfile": ({IMPORT}, inside("import tempfile\ntempfile.NamedTemporaryFile(prefix=CANARY)")),
    "importlib": ({IMPORT}, inside("import importlib\nimportlib.import_module('os').system('touch ' + CANARY)")),
    "runpy": ({IMPORT}, inside("import runpy\nrunpy.run_path('/dev/stdin')\n")),
    "pickle": (
        {IMPORT},
        inside(
            """
            import pickle
            pickle.loads(b"cposix\\nsystem\\n(V" + ("touch " + CANARY).encode() + b"\\ntR.")
            """
        ),
    ),
    "marshal": (
        {IMPORT, CALL},
        inside("import marshal\nexec(marshal.loads(marshal.dumps(compile(\"open(CANARY, 'w')\", 'x', 'exec'))))"),
    ),
    "sys-modules": ({IMPORT}, inside("import sys\nsys.modules['os'].system('touch ' + CANARY)")),
    "posix": ({IMPORT}, inside("import posix\nposix.system('touch ' + CANARY)")),
    "pty": ({IMPORT}, inside("import pty\npty.spawn(['touch', CANARY])")),
    "codecs-open": ({IMPORT}, inside("import codecs\ncodecs.open(CANARY, 'w').close()")),
    "timeit": ({IMPORT}, inside("import timeit\ntimeit.timeit(\"open(%r, 'w')\" % CANARY, number=1)")),
    "code-interpreter": ({IMPORT}, inside("import code\ncode.InteractiveInterpreter().runsource(\"open(%r, 'w')\" % CANARY)")),
    "atexit": ({IMPORT}, inside("import atexit\natexit.register(print)\nimport io\nio.open(CANARY, 'w')")),
    "thread": (
        {IMPORT, CALL},
        inside("import threading\nt = threading.Thread(target=lambda: open(CANARY, 'w'))\nt.start()\nt.join()"),
    ),
    "asyncio": (
        {IMPORT},
        inside(
            """
            import asyncio
            async def go():
                await (await asyncio.create_subprocess_exec("touch", CANARY)).wait()
            asyncio.run(go())
            """
        ),
    ),
    "io-open": ({ATTRIBUTE}, inside("import io\nio.open(CANARY, 'w').close()")),
    "from-io-open": ({IMPORT}, inside("from io import open as read\nread(CANARY, 'w').close()")),
    "io-fileio": ({IMPORT, ATTRIBUTE}, inside("import io\nio.FileIO(CANARY, 'w').close()")),
    "star-import": ({DYNAMIC}, above("from PIL.Image import *\nos.system('touch ' + CANARY)")),
    "relative-import": ({IMPORT}, above("from . import other\n")),
    "torchserve-base-handler": ({IMPORT}, above("from ts.torch_handler.base_handler import BaseHandler\n")),
    # --- modules reached through modules ----------------------------------------------------------------------------------
    "from-torch-os": ({IMPORT}, inside("from torch import os\nos.system('touch ' + CANARY)")),
    "torch-os": ({ATTRIBUTE}, inside("torch.os.system('touch ' + CANARY)")),
    "torch-alias-os": ({ATTRIBUTE}, inside("t = torch\nt.os.system('touch ' + CANARY)")),
    "torch-nn-importlib": (
        {ATTRIBUTE},
        inside("torch.nn.functional.importlib.import_module('os').system('touch ' + CANARY)"),
    ),
    "random-os": ({ATTRIBUTE}, inside("import random\nrandom._os.system('touch ' + CANARY)")),
    "json-codecs": ({ATTRIBUTE}, inside("import json\njson.codecs.open(CANARY, 'w').close()")),
    "logging-os": ({ATTRIBUTE}, inside("import logging\nlogging.os.system('touch ' + CANARY)")),
    "logging-file": ({ATTRIBUTE}, inside("import logging\nlogging.FileHandler(CANARY)")),
    "logging-config-file": (
        {CALL},
        inside("import logging\nlogging.basicConfig(filename=CANARY, force=True, level=10)"),
    ),
    "pil-os": ({ATTRIBUTE}, inside("from PIL import Image\nImage.os.system('touch ' + CANARY)")),
    "warnings-sys": ({ATTRIBUTE}, inside("import warnings\nwarnings.sys.modules['os'].system('touch ' + CANARY)")),
    "dataclasses-sys": ({ATTRIBUTE}, inside("import dataclasses as d\nd.sys.modules['os'].system('touch ' + CANARY)")),
    "module-in-list": ({DYNAMIC}, inside("[t for t in [torch]][0].os.system('touch ' + CANARY)")),
    "module-as-default": (
        {DYNAMIC},
        inside("run()", "def run(t=torch):\n    t.os.system('touch ' + CANARY)\n"),
    ),
    "module-by-walrus": ({DYNAMIC, ATTRIBUTE}, inside("(t := torch).os.system('touch ' + CANARY)")),
    "module-by-match": (
        {DYNAMIC, ATTRIBUTE},
        inside("match torch:\n    case t:\n        t.os.system('touch ' + CANARY)"),
    ),
    "module-in-class": (
        {IMPORT, DYNAMIC, ATTRIBUTE},
        above("class Tools:\n    import torch as t\n\n    def run(self):\n        self.t.os.system('touch ' + CANARY)\n")
        + "\n    def prepare(self, item):\n        Tools().run()\n",
    ),
    "module-shadowed": (
        {DYNAMIC, ATTRIBUTE},
        above("import json\nimport warnings as json\n\n\ndef go(x):\n    return json.sys.modules['os'].system('touch ' + CANARY)\n")
        + "\n    def prepare(self, item):\n        go(1)\n",
    ),
    "getattr-of-module": ({ATTRIBUTE}, inside("getattr(torch, 'os').system('touch ' + CANARY)")),
    "getattr-computed": ({DYNAMIC}, inside("getattr(torch, 'o' + 's').system('touch ' + CANARY)")),
    "getattr-alias": ({CALL}, inside("g = getattr\ng(torch, 'o' + 's').system('touch ' + CANARY)")),
    "getattr-by-reduce": (
        {CALL, DYNAMIC},
        inside("import functools\nfunctools.reduce(getattr, ['o' + 's', 'system'], torch)('touch ' + CANARY)"),
    ),
    "getattr-by-map": ({CALL, DYNAMIC}, inside("next(map(getattr, [torch], ['os'])).system('touch ' + CANARY)")),
    "attrgetter": (
        {ATTRIBUTE, DYNAMIC},
        inside("import operator\noperator.attrgetter('os.system')(torch)('touch ' + CANARY)"),
    ),
    "methodcaller": (
        {IMPORT, DYNAMIC, ATTRIBUTE},
        inside("from operator import methodcaller\nmethodcaller('system', 'touch ' + CANARY)(torch.os)"),
    ),
    # --- torch, numpy and Pillow themselves --------------------------------------------------------------------------------
    "torch-load": (
        {ATTRIBUTE},
        inside(
            """
            import io
            data = b"\\x80\\x02cposix\\nsystem\\nX" + len("touch " + CANARY).to_bytes(4, "little")
            torch.serialization.pickle.loads(data + ("touch " + CANARY).encode() + b"\\x85R.")
            """
        ),
    ),
    "torch-save": ({ATTRIBUTE}, inside("torch.save({}, CANARY)")),
    "torch-jit-save": ({ATTRIBUTE}, inside("torch.jit.save(torch.jit.script(torch.nn.ReLU()), CANARY)")),
    "torch-from-file": ({ATTRIBUTE}, inside("torch.from_file(CANARY, shared=True, size=4)")),
    "storage-from-file": (
        {CALL},
        inside("type_of = torch.zeros(1).untyped_storage()\ntype_of.from_file(CANARY, True, 4)"),
    ),
    "torch-hub": ({ATTRIBUTE}, inside("torch.hub.os.system('touch ' + CANARY)")),
    "cpp-extension": (
        {IMPORT},
        inside("from torch.utils import cpp_extension\ncpp_extension.subprocess.run(['touch', CANARY])"),
    ),
    "load-library": ({ATTRIBUTE}, inside("torch.ops.load_library(CANARY)")),
    "torch-aten-save": ({ATTRIBUTE}, inside("torch.ops.aten.from_file(CANARY, True, 4)")),
    "torch-multiprocessing": ({IMPORT}, inside("import torch.multiprocessing as mp\nmp.spawn(print)")),
    "torch-private": ({ATTRIBUTE}, inside("torch._C._jit_set_profiling_mode(False)\ntorch._utils.sys.modules['os'].system('touch ' + CANARY)")),
    "torch-compile": ({ATTRIBUTE}, inside("torch.compile(torch.nn.ReLU())")),
    "torch-jit-annotation": (  # CVE-2022-45907: torch.jit evaluates type comments
        {ATTRIBUTE, AT_IMPORT},
        above(
            """
            def go(x):
                # type: (__import__("pathlib").Path(CANARY).touch() or int) -> int
                return x


            torch.jit.script(go)
            """
        ),
    ),
    "singledispatch-annotation": (  # register() evaluates text annotations
        {IMPORT, AT_IMPORT, DYNAMIC},
        above(
            """
            from functools import singledispatch


            @singledispatch
            def go(x):
                return x


            @go.register
            def _(x: "__import__('pathlib').Path(CANARY).touch() or int"):
                return x
            """
        ),
    ),
    "get-type-hints": (
        {IMPORT, DYNAMIC},
        above(
            """
            from typing import get_type_hints


            class Named:
                x: "__import__('pathlib').Path(CANARY).touch() or int"


            get_type_hints(Named)
            """
        ),
    ),
    "numpy-load": ({ATTRIBUTE}, inside("import numpy as np\nnp.load(CANARY, allow_pickle=True)")),
    "numpy-save": ({ATTRIBUTE}, inside("import numpy as np\nnp.save(open(CANARY, 'wb'), [1])")),
    "numpy-memmap": ({ATTRIBUTE}, inside("import numpy as np\nnp.memmap(CANARY, mode='w+', shape=4)")),
    "numpy-tofile": ({CALL}, inside("torch.zeros(2).numpy().tofile(CANARY)")),
    "numpy-dump": ({CALL}, inside("torch.zeros(2).numpy().dump(CANARY)")),
    "numpy-ctypes": ({CALL, ATTRIBUTE}, inside("c = torch.zeros(2).numpy().ctypes\nc._ctypes.CDLL(None).creat(CANARY.encode(), 384)")),
    "numpy-f2py": ({IMPORT}, inside("import numpy.f2py as f\nf.os.system('touch ' + CANARY)")),
    "numpy-array-interface": (  # any address can be read and written
        {DEFINITION},
        inside(
            "import numpy as np\nprint(np.asarray(Window())[0])",
            """
            class Window:
                __array_interface__ = {"shape": (1,), "typestr": "|u1", "data": (4096, False), "version": 3}
            """,
        ),
    ),
    "numpy-array-interface-later": (
        {ATTRIBUTE, DEFINITION},
        inside("self.__array_interface__ = {'data': (4096, False), 'shape': (1,), 'typestr': '|u1', 'version': 3}"),
    ),
    "numpy-array-interface-enum": (
        {DEFINITION},
        inside(
            "Window('W', {'__array' + '_interface__': 1})",
            "from enum import Enum\n\n\nclass Window(Enum):\n    pass\n",
        ),
    ),
    "numpy-as-strided": ({IMPORT}, inside("from numpy.lib.stride_tricks import as_strided\nas_strided([1], (9,), (8,))")),
    "image-save": ({CALL}, inside("from PIL import Image\nImage.new('L', (1, 1)).save(CANARY, 'PNG')")),
    "image-open-path": ({CALL}, inside("from PIL import Image\nImage.open('/etc/shadow')")),
    "image-math": ({IMPORT}, inside("from PIL import ImageMath\nImageMath.eval('1')")),
    "image-show": ({CALL}, inside("from PIL import Image\nImage.new('L', (1, 1)).show()")),
    # --- built-in functions ---------------------------------------------------------------------------------------------------
    "open-write": ({CALL}, inside("open(CANARY, 'w').close()")),
    "open-read": ({CALL}, inside("self.secret = open('/proc/self/environ').read()")),
    "eval": ({CALL, DYNAMIC}, inside("eval(\"__import__('pathlib').Path(CANARY).touch()\")")),
    "exec": ({CALL}, inside("exec(\"import os; os.system('touch ' + CANARY)\")")),
    "compile": ({CALL}, inside("exec(compile('import os', 'x', 'exec'))\nopen(CANARY, 'w')")),
    "dunder-import": ({CALL}, inside("__import__('os').system('touch ' + CANARY)")),
    "builtins": ({CALL}, inside("__builtins__['open'](CANARY, 'w')", "")),
    "builtins-import": ({IMPORT}, inside("import builtins\nbuiltins.open(CANARY, 'w')")),
    "eval-alias": ({CALL}, inside("e = eval\ne(\"open(CANARY, 'w')\")")),
    "eval-in-list": ({CALL}, inside("[eval][0](\"open(CANARY, 'w')\")")),
    "eval-as-default": ({CALL}, inside("run(\"open(CANARY, 'w')\")", "def run(x, e=eval):\n    return e(x, globals())\n")),
    "eval-by-map": ({CALL}, inside("list(map(eval, [\"open(CANARY, 'w')\"]))")),
    "eval-in-lambda": ({CALL}, inside("(lambda e=exec: e(\"open(CANARY, 'w')\", globals()))()")),
    "eval-as-decorator": (
        {CALL, AT_IMPORT},
        above("@eval\n@lambda f: \"open(CANARY, 'w')\"\ndef go():\n    pass\n"),
    ),
    "open-by-decorator": (
        {CALL, AT_IMPORT},
        above("@exec\n@str.lower\n@lambda _: \"import os; os.system('touch ' + canary)\"\nclass Go:\n    pass\n").replace(
            "import torch\n", "import torch\ncanary = CANARY\n", 1
        ),
    ),
    "open-bound-sometimes": (
        {CALL},
        above("if False:\n    open = None\nfile = open\n") + "\n    def prepare(self, item):\n        file(CANARY, 'w')\n",
    ),
    "open-in-class": (
        {CALL},
        above("class Tools:\n    if False:\n        open = None\n    file = open(CANARY, 'w')\n"),
    ),
    "globals": ({CALL}, inside("globals()['__builtins__']['open'](CANARY, 'w')")),
    "vars": ({CALL, DYNAMIC}, inside("vars(torch)['os'].system('touch ' + CANARY)")),
    "breakpoint": ({CALL}, inside("breakpoint()")),
    "type-three": ({DYNAMIC}, inside("type('X', (), {'__array' + '_interface__': 1})()")),
    "type-alias": ({CALL, DYNAMIC}, inside("t = type\nt('X', (), {'__array' + '_interface__': 1})()")),
    "type-of-type": ({DYNAMIC}, inside("m = type(int)\nm('X', (), {'__array' + '_interface__': 1})()")),
    # --- Python's inside -----------------------------------------------------------------------------------------------------
    "subclasses": (
        {ATTRIBUTE},
        inside(
            """
            for one in ().__class__.__base__.__subclasses__():
                if one.__name__ == "_wrap_close":
                    one.__init__.__globals__["system"]("touch " + CANARY)
                    break
            """
        ),
    ),
    "function-globals": ({ATTRIBUTE}, inside("torch.unique.__globals__['torch'].os.system('touch ' + CANARY)")),
    "method-globals": ({ATTRIBUTE}, inside("self.load.__globals__['__builtins__']['open'](CANARY, 'w')")),
    "code-object": ({ATTRIBUTE}, inside("self.load.__func__.__code__.co_consts\nprint.__self__.open(CANARY, 'w')")),
    "builtin-self": ({ATTRIBUTE}, inside("print.__self__.open(CANARY, 'w')")),
    "mro": ({CALL}, inside("type(self).mro()")),
    "generator-frame": (  # CVE-2023-37271
        {ATTRIBUTE},
        inside("g = (x for x in [1])\ng.gi_frame.f_builtins['open'](CANARY, 'w')"),
    ),
    "traceback-frame": (
        {ATTRIBUTE},
        inside("try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__.tb_frame.f_builtins['open'](CANARY, 'w')"),
    ),
    "format-globals": (  # CVE-2023-41039
        {ATTRIBUTE, DYNAMIC},
        inside("self.answer = '{0.load.__globals__}'.format(self)"),
    ),
    "format-built": ({DYNAMIC}, inside("field = '{0.' + '_' * 2 + 'dict' + '_' * 2 + '}'\nself.answer = field.format(self)")),
    "format-map": ({DYNAMIC, ATTRIBUTE}, inside("self.answer = '{x.device}'.format_map({'x': torch.zeros(1)})")),
    "string-formatter": (  # CVE-2024-47532
        {IMPORT},
        inside("from string import Formatter\nself.answer = Formatter().get_field('0.load', (self,), {})"),
    ),
    "match-globals": (
        {ATTRIBUTE},
        inside("match self.load:\n    case object(__globals__=names):\n        names['__builtins__']['open'](CANARY, 'w')"),
    ),
    "match-args": (
        {DEFINITION},
        inside(
            """
            Reader.register(type(print_all))
            match print_all:
                case Reader(names):
                    names["__builtins__"]["open"](CANARY, "w")
            """,
            """
            from abc import ABC


            def print_all():
                pass


            class Reader(ABC):
                __match_args__ = ("__globals__",)
            """,
        ),
    ),
    "wraps-globals": (
        {DYNAMIC},
        inside(
            """
            import functools
            def mine(): pass
            functools.wraps(mine, assigned=("__glob" + "als__",), updated=())(self.Copy)
            self.Copy.__globals__["__builtins__"]["open"](CANARY, "w")
            """
        ).replace("class Own(SafeHandler):\n", "class Own(SafeHandler):\n    class Copy:\n        pass\n\n"),
    ),
    "f-string": ({ATTRIBUTE}, inside("f'{self.load.__globals__[\"__builtins__\"][\"open\"](CANARY, \"w\")}'")),
    "getattr-dunder": ({ATTRIBUTE, DYNAMIC}, inside("getattr(self.load, '__globals__')['__builtins__']['open'](CANARY, 'w')")),
    "getattribute": (
        {ATTRIBUTE, DYNAMIC},
        inside("object.__getattribute__(torch, 'os').system('touch ' + CANARY)"),
    ),
    "path-of-self": (  # a private attribute of a foreign object, read as if it were one's own
        {DYNAMIC, ATTRIBUTE},
        inside(
            "Reader.read(self.place)",
            "class Reader:\n    _flavour = None\n\n    def read(self):\n        return self._flavour.pathmod.os.system('touch ' + CANARY)\n",
        ),
    ),
    "closure-cell": ({ATTRIBUTE}, inside("def f():\n    return model\nf.__closure__[0].cell_contents")),
    "reduce": (
        {DEFINITION},
        inside(
            "import copy\ncopy.copy(Bomb())",
            "class Bomb:\n    def __reduce__(self):\n        import os\n        return os.system, ('touch ' + CANARY,)\n",
        ).replace("import os\n        return os.system", "return torch.os.system"),
    ),
    "instance-check": (
        {DEFINITION},
        above("class Meta(type):\n    def __new__(mcs, *a, **k):\n        open(CANARY, 'w')\n        return type.__new__(mcs, *a, **k)\n\n\nclass Go(metaclass=Meta):\n    pass\n"),
    ),
    "init-subclass": (
        {DEFINITION},
        above("class Base:\n    def __init_subclass__(cls, **k):\n        open(CANARY, 'w')\n\n\nclass Go(Base):\n    pass\n"),
    ),
    "set-name": (
        {DEFINITION},
        above("class Field:\n    def __set_name__(self, owner, name):\n        open(CANARY, 'w')\n\n\nclass Go:\n    x = Field()\n"),
    ),
    "class-getitem": (
        {DEFINITION},
        above("class Base:\n    def __class_getitem__(cls, key):\n        open(CANARY, 'w')\n\n\ndef go(x: Base[int]):\n    pass\n"),
    ),
    "del-method": (
        {DEFINITION},
        inside("Late()", "class Late:\n    def __del__(self):\n        open(CANARY, 'w')\n"),
    ),
    "module-getattr": ({DEFINITION}, above("def __getattr__(name):\n    return name\n")),
    "getattr-hook": (
        {DEFINITION},
        above("class Window:\n    def __getattr__(self, name):\n        return {'data': (4096, False)}\n"),
    ),
    # --- when the file is loaded -----------------------------------------------------------------------------------------------
    "decorator-at-import": (
        {AT_IMPORT, CALL},
        above("def run(f):\n    open(CANARY, 'w')\n    return f\n\n\n@run\ndef go():\n    pass\n"),
    ),
    "default-at-import": (
        {AT_IMPORT, CALL},
        above("def run():\n    open(CANARY, 'w')\n\n\ndef go(x=run()):\n    pass\n"),
    ),
    "annotation-at-import": (
        {AT_IMPORT, CALL},
        above("def run():\n    open(CANARY, 'w')\n    return int\n\n\ndef go(x: run()):\n    pass\n"),
    ),
    "class-body-at-import": (
        {AT_IMPORT, CALL},
        above("def run():\n    open(CANARY, 'w')\n\n\nclass Go:\n    x = run()\n"),
    ),
    "base-at-import": (
        {AT_IMPORT, CALL, DEFINITION},
        above("def run():\n    open(CANARY, 'w')\n    return object\n\n\nclass Go(run()):\n    pass\n"),
    ),
    "call-at-import": ({AT_IMPORT}, above("def run():\n    return torch.zeros(3)\n\n\nrun()\n")),
    "comprehension-at-import": ({AT_IMPORT, CALL}, above("X = [open(CANARY, 'w') for _ in range(1)]\n")),
    "lambda-at-import": ({AT_IMPORT}, above("sorted([2, 1], key=lambda x: -x)\nY = (lambda: 1)()\n")),
    "model-at-import": (
        {AT_IMPORT},
        above("class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n\n\nNET = Net()\n"),
    ),
    "loop-at-import": ({AT_IMPORT}, above("while True:\n    pass\n")),
    "power-at-import": ({AT_IMPORT}, above("X = 2 ** 2 ** 50\n")),
    "main-block": (
        {CALL},
        above("if __name__ == '__main__':\n    open(CANARY, 'w')\nelse:\n    open(CANARY, 'w')\n"),
    ),
    "main-renamed": (
        {DEFINITION},
        above("def run():\n    return 1\n\n\n__name__ = '__main__'\nif __name__ == '__main__':\n    run()\n"),
    ),
    # --- Garrison itself -------------------------------------------------------------------------------------------------------
    "sealed-handle": ({DEFINITION}, above("").replace("def infer", "def handle(self, data, context):\n        return data\n\n    def infer")),
    "sealed-on-class": ({DEFINITION, ATTRIBUTE}, above("def show(self, *a):\n    return a\n") + "\n    _admit = None\n"),
    "sealed-by-mixin": (
        {DEFINITION, ATTRIBUTE},
        inside("type(self)._admit = None"),
    ),
    "monkey-patch-torch": ({DEFINITION}, inside("torch.nn.functional.relu = lambda x: x\nopen(CANARY, 'w')")),
    "monkey-patch-class": ({DEFINITION}, inside("from PIL import Image\nImage.Image.resize = None")),
    "weaken-pillow": ({DEFINITION}, inside("from PIL import Image\nImage.MAX_IMAGE_PIXELS = None")),
    "weaken-garrison": ({IMPORT}, inside("import garrison.checks.image as image\nimage.MAX_PIXELS = 10**12")),
    "weights-of-a-made-up-model": (  # any of the model's files would run as model.py
        {CALL},
        inside(
            "load_weights(Fake(), self.device)",
            """
            from garrison.torchserve.weights import load_weights


            class Fake:
                model_file = "vocabulary.txt"
                weights = "model.pt"

                def read(self, name):
                    return b"open(CANARY, 'w')"
            """,
        ),
    ),
    "weights-of-a-replaced-model": (
        {CALL},
        inside(
            "load_weights(replace(model, model_file='vocabulary.txt'), self.device)",
            "from dataclasses import replace\n\nfrom garrison.torchserve.weights import load_weights\n",
        ),
    ),
    "weights-of-a-rebound-model": (
        {CALL},
        inside("model = Fake()\nload_weights(model, self.device)",
               "from garrison.torchserve.weights import load_weights\n\n\nclass Fake:\n    pass\n"),
    ),
    "packed-model-made": (
        {CALL},
        inside("PackedModel(None, None, 'x.pt', ())", "from garrison.archive import PackedModel\n"),
    ),
    "program-written": (  # torch.fx puts names into source text and runs it
        {CALL, DYNAMIC, ATTRIBUTE},
        inside("self.net = model\nself.net.graph.placeholder('x=print(1)')\nself.net.recompile()"),
    ),
    # --- found by attacking the policy itself -----------------------------------------------------------------------------------
    "load-under-a-second-name": (
        {DYNAMIC, CALL},
        inside(
            "Other()(Fake())",
            """
            from garrison.torchserve.weights import load_weights


            class Fake:
                pass


            class Other(SafeHandler):
                def load(self, model):
                    load_weights(model, self.device)

                __call__ = load
            """,
        ),
    ),
    "load-by-pattern": (
        {ATTRIBUTE},
        inside("match self:\n    case Own(load=f):\n        f(1)"),
    ),
    "load-in-another-class": (
        {CALL},
        above("from garrison.torchserve.weights import load_weights\n\n\nclass Z:\n    def load(self, model):\n"
              "        load_weights(model, None)\n"),
    ),
    "load-under-a-decorator": (
        {CALL},
        above("from functools import cache\n\nfrom garrison.torchserve.weights import load_weights\n\n\n"
              "class Z(SafeHandler):\n    @cache\n    def load(self, model):\n        load_weights(model, None)\n"),
    ),
    "model-reads-otherwise": (  # what the model's files are said to hold would run as model.py
        {DEFINITION},
        inside("model.files.read = lambda name: b'print(1)'"),
    ),
    "model-changed-as-self": (
        {ATTRIBUTE},
        inside("for K in (Change,):\n    K.go(model)",
               "class Change:\n    def go(self):\n        object.__setattr__(self, 'files', 1)\n"),
    ),
    "numpy-forged-object": (  # any number is taken for an object's address
        {CALL},
        inside("import numpy as np\nnp.ndarray((1,), dtype='O', buffer=bytearray(8))"),
    ),
    "numpy-forged-object-by-loop": (
        {CALL},
        inside("import numpy as np\nfor K in [np.ndarray]:\n    K((1,), dtype='O', buffer=bytearray(8))"),
    ),
    "array-interface-by-copy": (
        {DEFINITION},
        inside("import copy\ncopy.copy(K())",
               "class K:\n    def __getstate__(self):\n        return {'__array' + '_interface__': 1}\n"),
    ),
    "array-interface-by-pattern": (
        {DEFINITION},
        above("class K:\n    match {'shape': (1,)}:\n        case __array_interface__:\n            pass\n"),
    ),
    "array-interface-by-parameters": (
        {ATTRIBUTE},
        inside("torch.nn.ParameterDict({'__array' + '_interface__': {}})"),
    ),
    "builtins-by-import": ({DEFINITION}, above("from math import sqrt as __builtins__\n")),
    "type-by-comparison": (
        {DYNAMIC},
        inside("K() == type(int)", "class K:\n    def __eq__(self, other):\n        return other('X', (), {})\n"),
    ),
    "type-by-own-isinstance": (
        {CALL, DYNAMIC},
        inside("isinstance(1, type)('X', (), {})", "def isinstance(a, b):\n    return b\n"),
    ),
    "super-redefined": (
        {DYNAMIC, ATTRIBUTE},
        inside("super()._spam", "def super():\n    return torch.zeros(1)\n\n\nclass K:\n    _spam = 1\n"),
    ),
    "log-silenced": ({CALL}, inside("import logging\nlogging.getLogger('garrison.contract').setLevel(100)")),
    "log-handlers": ({CALL}, inside("import logging\nlogging.getLogger().handlers[0].stream")),
    "array-interface-by-enum-call": (
        {CALL},
        inside("from enum import Enum\nEnum('W', {'__array' + '_interface__': 1})"),
    ),
    "array-interface-by-enum-of-functions": (
        {DEFINITION},
        inside("W('W', {'__array' + '_interface__': 1})", "from enum import Enum\n\n\nclass W(Enum):\n    x = staticmethod(len)\n"),
    ),
    "array-interface-by-namespace": (
        {DYNAMIC},
        inside("from types import SimpleNamespace\nSimpleNamespace(**{'__array' + '_interface__': {}})"),
    ),
    "storage-freed": ({CALL}, inside("x = torch.zeros(9)\nx.untyped_storage().resize_(0)")),
    # --- hidden ------------------------------------------------------------------------------------------------------------------
    "base64": (
        {CALL, HIDDEN},
        inside("import base64\nexec(base64.b64decode('b3BlbihDQU5BUlksICJ3Iik=').decode())"),
    ),
    "base64-long": ({HIDDEN}, above("DATA = '" + "aGVsbG8gd29ybGQhIHRoaXMgaXMgYSBwYXlsb2Fk" * 8 + "'\n")),
    "hex-long": ({HIDDEN}, above("DATA = '" + "0123456789abcdef" * 20 + "'\n")),
    "bytes-long": ({HIDDEN}, above("DATA = b'" + "\\xfa\\x01Zq" * 100 + "'\n")),
    "huge-int": ({HIDDEN}, above("DATA = 0x" + "deadbeef" * 40 + "\n")),
    "chr-join": ({HIDDEN, CALL}, inside("exec(''.join(chr(x) for x in [111, 112, 101, 110, 40, 67, 65, 78, 65, 82, 89, 44, 34, 119, 34, 41]))")),
    "chr-sum": ({HIDDEN, DYNAMIC}, inside("name = chr(111) + chr(115)\ngetattr(torch, name).system('touch ' + CANARY)")),
    "bytes-of-numbers": ({HIDDEN}, inside("text = bytes([111, 112, 101, 110, 40, 67, 65, 78, 65, 82]).decode()")),
    "escaped-letters": ({HIDDEN}, above("DATA = '\\x6f\\x73\\x2e\\x73\\x79\\x73\\x74\\x65\\x6d'\n")),
    "rot13": ({IMPORT}, inside("import codecs\nexec(codecs.decode('bcra(PNANEL, \"j\")', 'rot13'))\n")),
    "nfkc-eval": ({CALL, HIDDEN}, inside("ｅｖａｌ(\"open(CANARY, 'w')\")")),
    "nfkc-import": ({IMPORT, HIDDEN}, inside("import oｓ\nos.system('touch ' + CANARY)")),
    "homoglyph": ({HIDDEN}, above("def оpen_file(x):\n    return x\n")),  # Cyrillic о
    "bidi": ({HIDDEN}, above("# check \u202e } \u2066 if admin \u2069 \u2066 begin\nX = 1\n")),
    "zero-width": ({HIDDEN}, above("X = 'a\u200bb'\n")),
    "nul": ({HIDDEN, NOT_PYTHON}, above("X = 1\0\n")),
    "form-feed": ({HIDDEN}, above("\fX = 1\n")),
    "lone-return": ({HIDDEN}, above("# a comment\ropen(CANARY, 'w')\n")),
    "far-to-the-right": ({HIDDEN, CALL}, above("X = 1;" + " " * 2000 + "open(CANARY, 'w')\n")),
    "deep": ({TOO_LARGE, NOT_PYTHON}, above("X = " + "-" * 50_000 + "1\n")),
    "deep-chain": ({TOO_LARGE}, above("X = " + "1+" * 400 + "1\n")),
    "large": ({TOO_LARGE}, above("X = [\n" + "0,\n" * 120_000 + "]\n")),
    "many-parts": ({TOO_LARGE}, above("X = [\n" + ("0," * 400 + "\n") * 300 + "]\n")),
    "not-python": ({NOT_PYTHON}, "class Own(:\n"),
}  # fmt: skip

CODED: dict[str, tuple[set[str], Callable[[str], bytes]]] = {
    "utf-7": (  # CVE-style: what reads as text is code
        {HIDDEN, NOT_PYTHON},
        lambda canary: b"# coding: utf-7\n+AG8AcABlAG4(" + repr(canary).encode() + b", 'w')\n" + above("").encode(),
    ),
    "latin-1": ({HIDDEN}, lambda _: b"# -*- coding: latin-1 -*-\n" + above("X = 'é'\n").encode("latin-1")),
    "utf-16": ({NOT_PYTHON, HIDDEN}, lambda _: above("").encode("utf-16")),
    "not-utf-8": ({NOT_PYTHON}, lambda _: above("").encode() + b"# \xff\n"),
    "unicode-escape": (
        {HIDDEN, CALL},
        lambda canary: (
            b"# coding: unicode_escape\n# \\x0aopen(" + repr(canary).encode() + b", 'w')\n" + above("").encode()
        ),
    ),
}

_NO_CANARY = """runpy tempfile relative-import torchserve-base-handler load-library torch-multiprocessing torch-compile numpy-load
    numpy-array-interface numpy-array-interface-later numpy-array-interface-enum numpy-as-strided image-open-path image-math
    image-show open-read breakpoint type-three type-alias type-of-type mro code-object format-globals format-built format-map
    string-formatter path-of-self closure-cell module-getattr getattr-hook call-at-import lambda-at-import model-at-import
    loop-at-import power-at-import main-renamed sealed-handle sealed-on-class sealed-by-mixin monkey-patch-class
    weaken-pillow weaken-garrison weights-of-a-made-up-model weights-of-a-replaced-model weights-of-a-rebound-model
    packed-model-made program-written base64-long hex-long bytes-long huge-int bytes-of-numbers escaped-letters homoglyph
    load-under-a-second-name load-by-pattern load-in-another-class load-under-a-decorator model-reads-otherwise model-changed-as-self numpy-forged-object numpy-forged-object-by-loop array-interface-by-copy array-interface-by-pattern array-interface-by-parameters builtins-by-import type-by-comparison type-by-own-isinstance super-redefined array-interface-by-enum-call array-interface-by-enum-of-functions array-interface-by-namespace log-silenced log-handlers storage-freed
    torch-jit-annotation bidi zero-width nul form-feed deep deep-chain large many-parts not-python latin-1 utf-16 not-utf-8"""
NO_CANARY = frozenset(
    _NO_CANARY.split()
)  # what these do shows elsewhere, or never ends, or needs something that is not here
