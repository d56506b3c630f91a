"""Well-formed archives with a file whose name is the trick."""

from attacks.artifacts import HostileCase
from attacks.artifacts.rawzip import Part, write_zip
from attacks.artifacts.tiny_model import CANARY_CODE, Files, case_of, change_manifest, make_files, parts_of, zip_case


def list_names() -> list[HostileCase]:
    """Return well-formed archives with a file whose name is the trick."""
    so = "cpython-311-x86_64-linux-gnu.so"
    tricks = {
        # TorchServe puts a model's directory before the standard library on sys.path
        "shadowed_module": [
            *("json.py", "torch.py", "sitecustomize.py", "usercustomize.py", "os.pyc", "Torch.py", f"numpy.{so}"),
            *("ts/__init__.py", "torch/__init__.py", "garrison/__init__.py", "yaml.pyd", "_json.so"),
        ],
        "unexpected_code": [
            *("helper.py", "handler.pyc", "HANDLER.PY.py", "lib.so", "run.sh", "native.dll", "Evil.class", "evil.jar"),
            *("notebook.ipynb", "evil.whl", "handler.py", "model.py"),
        ],
        "nested_directory": [
            *("data/labels.json", "MAR-INF/more/x.json", "MAR-INF/second.json", "mar-inf/second.json"),
            *("a/b/c/d/e.json", "extra/"),
        ],
        "hidden_file": [".gitattributes", ".git/config", ".env", "MAR-INF/.hidden", ".model.pt", "..."],
        "unsafe_name": [
            *("con.json", "NUL", "COM1.txt", "aux.tar.json", "labels.json.", "labels.json ", " x.json", "a;b.json"),
            *("labels.json:stream", "model.pt::$DATA", "-rf", "$(id).json", "`id`.json", "a*b.json", "~root.json"),
            *("x" * 129 + ".json", "a\x1b[2Jb.json", "labels\u202enosj.json", "labels\u200b.json"),
            *("caf\u00e9.json", "l\u0430bels.json"),  # the second with a Cyrillic letter
        ],
        "requirements_file": ["requirements.txt", "requirements-dev.txt", "Pipfile", "pyproject.toml"],
        "reserved_name": ["admission.json"],
    }
    cases = []
    for rule, names in tricks.items():
        accepted = [rule, *(["unsafe_name"] if rule in ("hidden_file", "shadowed_module") else [])]
        cases += [name_case(name, *accepted) for name in names]
    cases.append(name_case("m\u00e9.json", "repeated_name", "unsafe_name", also="me\u0301.json"))
    cases.append(name_case("Stra\u00dfe.json", "repeated_name", "unsafe_name", also="STRASSE.json"))
    hook = b"import os; open(os.environ['GARRISON_CANARY'], 'w').write('ran')\n"
    cases += [
        case_of("name-path-hook", make_files() | {"evil.pth": hook}, "path_file"),
        case_of("name-path-hook-as-weights", as_weights("evil.pth", hook), "path_file"),
        case_of("name-path-line", make_files() | {"x.PTH": b"/tmp/evil\n"}, "path_file"),
    ]
    return cases


def as_weights(name: str, data: bytes) -> Files:
    """Return a packed model with these weights."""
    files = change_manifest(serializedFile=name)
    del files["model.pt"]
    return files | {name: data}


def name_case(name: str, *rules: str, also: str = "") -> HostileCase:
    """Return a case that is an archive with a file of this name, which would be run if it could."""
    parts = [name_part(one) for one in (name, also) if one]
    title = f"name-{ascii(name)[1:-1][:40]}".replace("/", "|")
    return zip_case(title, write_zip([*parts_of(make_files()), *parts]), *rules)


def name_part(name: str) -> Part:
    """Return a member of this name: a directory, or code that would leave a canary."""
    flags = 0 if name.isascii() else 0x800
    if name.endswith("/"):
        return Part(name.encode(), flags=flags, mode=0o40755)
    return Part(name.encode(), CANARY_CODE, flags=flags)
