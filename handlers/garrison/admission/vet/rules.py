"""The lists that the policy goes by. What is allowed is listed where that is possible, and the rest is refused.

Where it is not possible (the methods of values, whose type nobody knows before the code runs) the names are listed
that reach files, programs, frames or modules.
"""

import builtins
import collections
import types


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- built-in names ---------------------------------------------------------------------------------------------------

CALLED_ONLY = frozenset({"getattr", "hasattr", "setattr", "delattr", "super", "type"})
ALLOWED_BUILTINS = (
    CALLED_ONLY
    | _words(
        """abs all any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod enumerate filter
        float format frozenset hash hex id int isinstance issubclass iter len list map max memoryview min next object
        oct ord pow print property range repr reversed round set slice sorted staticmethod str sum tuple zip
        False None True NotImplemented Ellipsis __debug__ __name__"""
    )
    | frozenset(
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
    )
)
REFUSED_BUILTINS = frozenset(dir(builtins)) - ALLOWED_BUILTINS | {
    *("__builtins__", "__file__", "__loader__", "__spec__", "__package__", "__path__", "__cached__", "__annotations__"),
    *("__dict__", "__class__"),
}
INSTEAD = {
    "open": "read the model's files with model.read(name)",
    "eval": "write the expression itself, or json.loads for data",
    "exec": "write the code itself",
    "compile": "write the code itself",
    "__import__": "write an import statement",
    "input": "a worker has nobody to ask",
    "exit": "raise an error",
    "quit": "raise an error",
    "SystemExit": "raise an error",
    "breakpoint": "use logging",
    "__file__": "read the model's files with model.read(name)",
    "vars": "name what you need",
    "globals": "name what you need",
    "locals": "name what you need",
    "dir": "name what you need",
}

# --- imports ----------------------------------------------------------------------------------------------------------

IMPORT_INSTEAD = {
    "os": "read the model's files with model.read(name); settings belong in the contract or in constants",
    "sys": "nothing of it is needed in a handler",
    "pathlib": "read the model's files with model.read(name)",
    "pickle": "use JSON, safetensors, or load_weights",
    "dill": "use JSON, safetensors, or load_weights",
    "joblib": "use JSON, safetensors, or load_weights",
    "subprocess": "a worker starts no programs",
    "importlib": "write import statements",
    "ts": "derive from garrison.torchserve.base.SafeHandler",
    "threading": "the pipeline calls prepare from several threads already",
    "concurrent": "the pipeline calls prepare from several threads already",
    "multiprocessing": "set workers.count in the contract",
    "requests": "a worker has no network; what the model needs belongs into it",
    "urllib": "a worker has no network; what the model needs belongs into it",
    "socket": "a worker has no network; what the model needs belongs into it",
    "yaml": "use JSON",
}
ANNOTATION_ONLY = frozenset({"garrison.archive.PackedModel", "pathlib.Path", "pathlib.PurePath", "logging.Logger"})
LOADS_MODEL = frozenset({"garrison.torchserve.weights.load_weights", "garrison.torchserve.vision.load_network"})
GUARDED = LOADS_MODEL | {
    "types.SimpleNamespace",
    *("functools.wraps", "PIL.Image.open", "logging.basicConfig", "logging.getLogger", "abc.ABCMeta"),
}
ENUMS = frozenset({"enum.Enum", "enum.IntEnum", "enum.StrEnum", "enum.Flag", "enum.IntFlag"})
# numpy.ndarray(1, object, buffer) takes any number for an object's address; Enum("X", names) sets any attributes.
CLASS_ONLY = ENUMS | {"numpy.ndarray"}
BUFFERS = frozenset({"io.BytesIO", "io.StringIO"})
SETTABLE = frozenset(
    {
        *("torch.backends.cudnn.benchmark", "torch.backends.cudnn.deterministic", "torch.backends.cudnn.enabled"),
        *("torch.backends.cudnn.allow_tf32", "torch.backends.cuda.matmul.allow_tf32"),
        "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
        "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    }
)

# --- attributes -------------------------------------------------------------------------------------------------------

_INNER = (types.FrameType, types.TracebackType, types.CodeType, types.GeneratorType, types.CoroutineType)
FRAME_ATTRIBUTES = frozenset(
    name
    for kind in (*_INNER, types.AsyncGeneratorType)
    for name in dir(kind)
    if name.startswith(("f_", "tb_", "co_", "gi_", "cr_", "ag_"))
)
MODULE_ATTRIBUTES = _words(  # of an object: what could only be a module that it leads to
    """os sys posix posixpath ntpath genericpath pathmod subprocess builtins importlib ctypes cffi socket shutil pickle
    marshal inspect hub multiprocessing linecache codeop runpy pkgutil sysconfig gc pty pdb asyncio threading"""
)
_KINDS = (
    object,
    type,
    types.FunctionType,
    types.MethodType,
    types.ModuleType,
    *_INNER,
    dict,
    int,
    property,
    collections.UserDict,
)
HIDDEN_NAMES = frozenset(
    name for kind in _KINDS for name in dir(kind) if name.startswith("__")
) | _words(  # as text: they lead into Python
    """__builtins__ __import__ __build_class__ __loader__ __spec__ __file__ __globals__ __subclasses__ __mro__ __base__
    __bases__ __wrapped__ __traceback__ __cause__ __context__ __del__ __getattr__ __set_name__ __class_getitem__
    __array_interface__ __array_struct__ __cuda_array_interface__ __dlpack__ __match_args__ __prepare__ __slots__"""
)
HARMLESS_NAMES = _words("__main__ __init__ __name__ __call__ __len__ __getitem__ __version__ __str__ __doc__")
NAMED_TUPLE = frozenset({"_asdict", "_replace", "_make", "_fields"})
MODULE_PRIVATE = frozenset(
    {"_modules", "_parameters", "_buffers", "_get_name", "_init_weights", "_reset_parameters"}
) | {
    *("_forward_impl", "_make_layer"),  # of torchvision's networks, for those that derive from them
}
READABLE_DUNDERS = frozenset({"__name__", "__qualname__", "__module__", "__version__"})
NO_FILES = "a worker has no files of its own; return what you have from present"
FORBIDDEN_METHODS = {  # of any value
    **dict.fromkeys(("read_text", "read_bytes", "open"), "read the model's files with model.read(name)"),
    **dict.fromkeys(
        _words(
            """write_text write_bytes unlink rmdir mkdir touch chmod lchmod symlink_to hardlink_to link_to rename tofile
            dump savez savetxt memmap fromfile from_file iterdir glob rglob cwd home expanduser readlink to_folder"""
        ),
        NO_FILES,
    ),
    **dict.fromkeys(
        _words(
            """system popen Popen spawn spawnv fork execv execve execvp putenv load_library load_module exec_module show
            add_dll_directory"""
        ),
        "a worker starts no programs",
    ),
    **dict.fromkeys(("load_url", "load_state_dict_from_url", "urlopen", "urlretrieve"), "a worker has no network"),
    **dict.fromkeys(
        _words("mro save_ppm getim with_traceback addHandler removeHandler addFilter makeRecord"),
        "it changes or leads to what a handler has no business with",
    ),
}
FORBIDDEN_OF_OTHERS = {  # of any value but a handler's own object: ordinary words, too
    **dict.fromkeys(
        _words(
            """set_codegen recompile python_code create_node call_function call_method call_module get_attr placeholder
            node_copy graph_copy define"""
        ),
        "it writes program text that is run; build the model from modules",
    ),
    **dict.fromkeys(
        _words("untyped_storage typed_storage storage set_"), "it gives a tensor's memory away; work on the tensor"
    ),
    **dict.fromkeys(
        _words("handlers filters manager loggerDict setStream setFormatter setLoggerClass"),
        "it is a logger's own; use its methods for messages",
    ),
}
FOREIGN_PRIVATE = frozenset({"_flavour", "_directory", "_record"})  # of paths, and of the model's files
NEVER_SET = frozenset({"read", "graph"})  # of the model's files, and of a program
MODEL_FIELDS = frozenset({"files", "contract", "weights", "labels", "model_file", "handler_file"})
GUARDED_METHODS = frozenset({"save", "load", "replace", "format", "format_map", "compile"})
SAFE_FIELD = r"[A-Za-z0-9_]*(\[[A-Za-z0-9_ -]+\])*"  # of a text that is formatted: names, numbers, keys

# --- definitions ------------------------------------------------------------------------------------------------------

OPERATORS = frozenset(
    f"__{prefix}{name}__"
    for name in _words("add sub mul truediv floordiv mod divmod pow lshift rshift and xor or matmul")
    for prefix in ("", "r", "i")
)
METHODS = OPERATORS | _words(
    """__init__ __new__ __post_init__ __call__ __repr__ __str__ __format__ __len__ __length_hint__ __bool__ __contains__
    __getitem__ __setitem__ __delitem__ __missing__ __iter__ __next__ __reversed__ __enter__ __exit__ __eq__ __ne__
    __lt__ __le__ __gt__ __ge__ __hash__ __neg__ __pos__ __abs__ __invert__ __int__ __float__ __index__ __complex__
    __round__ __trunc__ __floor__ __ceil__ __copy__ __deepcopy__ __array__"""
)
CLASS_VARIABLES = METHODS | {"__slots__", "__constants__", "__doc__"}
MODULE_VARIABLES = frozenset({"__all__", "__version__", "__author__", "__doc__", "__license__", "__copyright__"})
# And all that begins with an underscore and the pipeline uses:
SEALED = frozenset({"initialize", "handle", "watch_with"})
SEALED_PRIVATE = _words(
    """_each _requests_at_once _admit _prepare _infer_all _explain_all _present _present_item _warm_up
    _check_blank_answer _takes _reply"""
)
SEALED_NATIVE = frozenset({"__setattr__", "__getattribute__", "__getattr__", "__delattr__", "__new__", "__reduce_ex__"})
BASES_FROM = (
    *("torch.nn.", "torchvision.models.", "torchvision.ops.", "garrison.torchserve.", "garrison.errors."),
    *("abc.ABC", "enum.", "typing.", "typing_extensions.", "collections.", "json.JSONEncoder", "json.JSONDecoder"),
    *("torch.autograd.Function", "torch.autograd.function.Function", "torch.distributions.", "contextlib."),
)
CLASS_KEYWORDS = frozenset({"metaclass", "total", "frozen", "slots"})

# --- when the file is loaded ------------------------------------------------------------------------------------------

KEEPS_FUNCTIONS = _words(  # take a function without calling it
    """dataclasses.field collections.defaultdict functools.partial functools.partialmethod functools.lru_cache
    functools.cache functools.cached_property functools.cmp_to_key functools.total_ordering contextlib.contextmanager
    torchvision.transforms.Lambda typing.cast torch.vmap torch.func.vmap"""
)
PROPERTY_PARTS = frozenset({"setter", "getter", "deleter"})
BUILT_BY_PARTS = frozenset({"__init__", "__new__", "__post_init__"})
MAX_SHIFT = 1024  # 2 ** 2 ** 40 is a denial of service, not a constant
