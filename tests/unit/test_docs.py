"""The documents agree with the code: everything that a person may write or meet stands in docs/reference.md."""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from garrison import audit, cli, errors
from garrison.admission import store
from garrison.admission.reasons import REASONS as REASONS_OF_ADMISSION
from garrison.admission.reasons import UNDECIDED
from garrison.admission.rules import check_bounds, manifest, server_settings
from garrison.admission.rules.names import CONTENT_RULES, SAVED_MODEL_RULES, STRUCTURE_RULES
from garrison.admission.scan.saved_model.forbidden import FORBIDDEN, say_forbidden
from garrison.admission.scan.saved_model.operators import KEY
from garrison.admission.settings import Limits
from garrison.admission.sign import trust
from garrison.admission.sign.signing import PASSWORD_VARIABLE
from garrison.admission.vet import fault, linter
from garrison.admission.vet.allowed import read_standing_list
from garrison.archive import WEIGHT_SUFFIXES
from garrison.cell.trials import PARTS
from garrison.checks.kserve import DATATYPES
from garrison.cli import build_parser
from garrison.contract import TASKS, TENSORFLOW, load_contract
from garrison.gateway.access_log import NUMBERS, TEXTS
from garrison.gateway.replies import BUDGET_REPLIES, OTHER, REPLIES
from garrison.guard.refusals import GUARD_REASONS, find_statuses
from garrison.reasons import OWN_REASONS, REASONS
from garrison.record import RECORD_FILE, SIGNATURE_FILE
from garrison.torchserve.properties import LOCKED, TUNABLE
from garrison.torchserve.server import _KEPT_VARIABLES
from garrison.torchserve.worker import KEPT_VARIABLES
from garrison.watch.families import FAMILIES, STEPS, Family

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "handlers" / "garrison"
SKIPPED = {".venv", ".git", "build", "node_modules"}
DOCUMENTS = sorted(path for path in REPOSITORY.rglob("*.md") if not SKIPPED & set(path.relative_to(REPOSITORY).parts))
REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text()
README = (REPOSITORY / "README.md").read_text()
README_MOST_LINES = 100
CONTRACT_MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("contract/*.py"))
ADMISSION_MODULES = ["record.py", *(str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("admission/**/*.py"))]
BUDGET = "gateway/budget/{}.py"
CELL_MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("cell/*.py"))
OTHER_MODULES = sorted({str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")} - set(ADMISSION_MODULES))
WORKER_MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("torchserve/*.py"))
READERS = {
    *("integer", "number", "numbers", "integers", "size", "text", "texts", "choice", "choices", "date", "flag"),
    "listing",
}
ERROR_CLASSES = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
PRIVATE_PATHS = re.compile(r"/(?:work|root|home|tmp/v|tmp/bash_jobs)(?![a-z])[/\w]*")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def section(heading: str) -> str:
    """Return the part of the reference below a heading, up to the next heading of the same or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    after = REFERENCE.split(f"\n{heading}\n", 1)[1]
    return re.split(rf"\n#{{1,{level}}} ", after, maxsplit=1)[0]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of a section's table rows whose first cell is code."""
    lines = [line for line in section(heading).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def calls(module: str) -> Iterator[ast.Call]:
    """Go through the function calls of a module."""
    return (node for node in ast.walk(ast.parse((PACKAGE / module).read_text())) if isinstance(node, ast.Call))


def first_texts(module: str, names: set[str]) -> list[str]:
    """Return the first arguments, as far as they are texts, of the calls of functions or methods with these names."""
    found = []
    for call in calls(module):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        first = call.args[0] if call.args else None
        if name in names and isinstance(first, ast.Constant) and isinstance(first.value, str):
            found.append(first.value)
    return found


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Go through a parser and all its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


def documented_keys(heading: str) -> list[str]:
    """Return the last words of the documented keys, sorted: `batch.max_bytes` and `inputs.image.max_bytes` are two."""
    return sorted(cells[0].strip("`").rpartition(".")[2] for cells in rows(heading) if cells[1] != "a mapping")


def options() -> list[tuple[str, str]]:
    """Return command and option of the whole command line."""
    return [
        (parser.prog, option)
        for parser in parsers(build_parser())
        for action in parser._actions
        for option in action.option_strings
    ]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < README_MOST_LINES


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    code = re.findall(r"`[^`\n]+`|```.*?```", document.read_text(), re.DOTALL)
    named = {name for text in code for name in re.findall(r"\bmake ([a-z-]+)", text)}
    assert named <= targets


def test_readme_names_the_test_command() -> None:
    assert "\nmake test\n" in README
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()


@pytest.mark.parametrize(("reason", "refusal"), REASONS.items(), ids=list(REASONS))
def test_reason_of_the_checks(reason: str, refusal: type[errors.RequestRefused]) -> None:
    assert [f"`{reason}`", str(refusal.http_status)] in [cells[:2] for cells in rows("### From the contract")]


def test_reasons_of_the_handlers() -> None:
    listed = [cells[:2] for cells in rows("### From the contract")]
    classes = {name: value for name, value in ERROR_CLASSES.items() if issubclass(value, errors.Refused)}
    raised = {
        (call.args[0].value, classes[call.func.id].http_status)
        for module in WORKER_MODULES
        for call in calls(module)
        if isinstance(call.func, ast.Name) and call.func.id in classes and isinstance(call.args[0], ast.Constant)
    }
    assert {reason for reason, _ in raised} >= set(OWN_REASONS)
    assert [pair for pair in raised if [f"`{pair[0]}`", str(pair[1])] not in listed] == []


def test_the_contracts_reasons_are_no_more_than_the_codes() -> None:
    assert {cells[0].strip("`") for cells in rows("### From the contract")} == {*REASONS, *OWN_REASONS}


def test_reasons_of_the_gateway() -> None:
    listed = {tuple(cells[:2]) for cells in rows("### From the gateway")}
    replies = {(f"`{reply.reason}`", str(status)) for status, reply in REPLIES.items()}
    replies |= {(f"`{reason}`", "429") for reason in BUDGET_REPLIES}
    assert listed == replies | {(f"`{OTHER.reason}`", "other")}


def test_reasons_of_the_guard() -> None:
    listed = {tuple(cells[:3]) for cells in rows("### From the guard")}
    statuses = {reason: find_statuses(reason) for reason in GUARD_REASONS}
    assert listed == {(f"`{reason}`", code.name, str(status)) for reason, (code, status) in statuses.items()}


def reasons_where_they_are_given() -> set[str]:
    """Return the reasons of admission that stand where a refusal or a finding is made, or where `rule` is chosen."""
    given = {"ArtifactRefused": 0, "_refuse": 0, "_StopError": 0, "Finding": 1}
    found: list[ast.expr] = []
    for module in ADMISSION_MODULES:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found.extend(node.args[given[name] :][:1] if name in given else ())
            elif isinstance(node, ast.Assign) and "rule" in {one.id for one in ast.walk(node) if is_set(one)}:
                found.extend(one for one in ast.walk(node.value) if isinstance(one, ast.expr))
    texts = {one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return {text for text in texts if re.fullmatch(r"[a-z]+(_[a-z]+)*", text)}


def is_set(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def reasons_of_tables() -> set[str]:
    """Return the reasons of admission that stand in tables and constants, or are built from a contract's bounds."""
    tables = [rule for table in (manifest.REFUSED_KEYS, server_settings.REFUSED) for rule, _ in table.values()]
    names = [rule for rule, _ in (*STRUCTURE_RULES, *SAVED_MODEL_RULES, *CONTENT_RULES)]
    vetting = [value for name, value in vars(fault).items() if name.isupper()] + [linter.RULE, linter.FAILED]
    contract = load_contract(REPOSITORY / "models" / "digits" / "contract.yaml")
    bounds = [finding.rule for finding in check_bounds(contract, Limits(1, 1, 1, 0, 0, 0), "contract.yaml")]
    return {*tables, *names, *vetting, *bounds}


def test_reasons_of_admission() -> None:
    listed = {cells[0].strip("`") for cells in rows("### From admission")}
    assert listed == reasons_where_they_are_given() | reasons_of_tables()
    assert listed | {UNDECIDED} == REASONS_OF_ADMISSION


@pytest.mark.parametrize(
    ("heading", "folder"), [("#### From the signature", "sign"), ("#### From fetching", "fetch")], ids=["sign", "fetch"]
)
def test_reasons_of_one_area(heading: str, folder: str) -> None:
    modules = [module for module in ADMISSION_MODULES if module.startswith(f"admission/{folder}/")]
    raised = {text for module in modules for text in first_texts(module, {"ArtifactRefused", "_refuse"})}
    assert {cells[0].strip("`") for cells in rows(heading)} == raised


def test_reasons_of_vetting() -> None:
    raised = {value for name, value in vars(fault).items() if name.isupper()} | {linter.RULE, linter.FAILED}
    assert {cells[0].strip("`") for cells in rows("#### From vetting")} == raised | {"unreadable_file"}


def test_modules_that_handlers_may_import() -> None:
    listed = section("#### What handlers may import")
    modules = {name.partition(".")[0] for name in read_standing_list()}
    assert [name for name in sorted(modules) if not re.search(rf"\b{name}\b", listed)] == []


def test_events_of_the_audit_logs() -> None:
    written = {event for module in ADMISSION_MODULES for event in events_in((PACKAGE / module).read_text())}
    written |= {event for module in OTHER_MODULES for event in first_texts(module, {"note"})}
    written |= {event for name in ("reload", "gateway") for event in first_texts(f"stack/{name}.py", {"append"})}
    written |= {*first_texts("stack/reload.py", {"tell"})}
    fields = {"sequence", "time", "event", "previous", "hash", "torn"}
    assert {cells[0].strip("`") for cells in rows("## The audit logs")} == written | fields


def test_exit_statuses() -> None:
    statuses = {value for module in (errors, cli) for name, value in vars(module).items() if name.startswith("EXIT_")}
    assert set(re.findall(r"^\| (\d+) \|", section("## Exit status"), re.MULTILINE)) == {str(s) for s in statuses}


def test_contract_keys() -> None:
    read = [key for module in CONTRACT_MODULES for key in first_texts(module, READERS)]
    once = {key for key in read if read.count(key) == 1} | {"width", "height"}
    once -= {"shape"}  # one reader for the shapes of all
    documented = documented_keys("## The contract")
    assert set(documented) == set(read)
    assert [key for key in once if documented.count(key) != 1] == []


def test_contract_sections() -> None:
    mappings = {cells[0].strip("`").rpartition(".")[2] for cells in rows("## The contract") if cells[1] == "a mapping"}
    assert mappings == {key for module in CONTRACT_MODULES for key in first_texts(module, {"section"})}


@pytest.mark.parametrize("kind", ["image", "tensor", "text", "table"])
def test_keys_of_an_input(kind: str) -> None:
    sections = set(first_texts(f"contract/{kind}.py", {"section"}))
    read = set(first_texts(f"contract/{kind}.py", READERS)) | sections
    assert {cells[0].strip("`").rpartition(".")[2] for cells in rows(f"### kind: {kind}")} == read


def test_keys_of_a_signature() -> None:
    modules, names = ("signatures", "tensor"), {*READERS, "section"}
    read = {key for module in modules for key in first_texts(f"contract/{module}.py", names)}
    documented = {cells[0].strip("`").rpartition(".")[2] for cells in rows("### Signatures")}
    assert documented == read - {"forms", "signatures"}


def test_tasks() -> None:
    described = {cells[0].strip("`"): cells[1] for cells in rows("## Tasks")}
    assert described.keys() == {*TASKS, TENSORFLOW}
    assert [task for task, kind in TASKS.items() if f"`{kind}`" not in described[task] and kind] == []


def test_datatypes_of_kserve() -> None:
    text = section("### Forms of a request")
    assert [name for name in (*DATATYPES, "BYTES") if f"`{name}`" not in text] == []


def test_formats_of_weights() -> None:
    text = section("### garrison pack")
    assert [suffix for suffix in WEIGHT_SUFFIXES if f"`{suffix}`" not in text] == []


GATEWAY_MODULES = ("settings", "authentication", "clients", "budget/settings")


def test_gateway_and_client_keys() -> None:
    documented = documented_keys("## gateway.yaml") + documented_keys("## clients.yaml")
    read = {key for module in GATEWAY_MODULES for key in first_texts(f"gateway/{module}.py", READERS)}
    assert set(documented) == read | {"MODEL"}


def test_admission_keys() -> None:
    assert sorted(documented_keys("## admission.yaml")) == sorted(first_texts("admission/settings.py", READERS))


def test_keys_of_the_operators() -> None:
    source = (PACKAGE / "admission/scan/saved_model/operators.py").read_text()
    read = {*re.findall(r'settings(?:, |\.text\(|\.section\()"(\w+)"', source), KEY}
    assert {cells[0].strip("`") for cells in rows("## tensorflow-ops.yaml")} == read


def test_what_no_operator_may_do() -> None:
    listed = dict(re.findall(r"^\| ([^`|]+) \| (`.*) \|$", section("## tensorflow-ops.yaml"), re.MULTILINE))
    assert listed.keys() == FORBIDDEN.keys()
    for what, names in listed.items():
        assert {say_forbidden(name) for name in re.findall(r"`(\w+)`", names)} == {what}


def test_cell_keys() -> None:
    assert sorted(documented_keys("## cell.yaml")) == sorted(first_texts("cell/settings.py", READERS))


def test_trust_keys() -> None:
    read = {*first_texts("admission/sign/trust.py", READERS), *trust.KINDS, "subject", "trust_config"}
    assert set(documented_keys("## trust/trust.yaml")) == read


def test_shipped_limits() -> None:
    shipped = (REPOSITORY / "config" / "admission.yaml").read_text()
    values = {cells[0].strip("`").rpartition(".")[2]: cells[2] for cells in rows("## admission.yaml")}
    limits = re.findall(r"^  (max_\w+): (\S+)", shipped, re.MULTILINE)
    assert limits
    assert [key for key, value in limits if values[key].replace(",", "").replace(" ", "") != value] == []


def test_locked_lines() -> None:
    lines = {cells[0].strip("`").replace("\\|", "|") for cells in rows("## config.properties") if "=" in cells[0]}
    assert lines == {f"{key}={value}" for key, value in LOCKED.items()}


def test_tunable_lines() -> None:
    shipped = dict(re.findall(r"^(\w+)=(.*)$", (REPOSITORY / "config" / "config.properties").read_text(), re.MULTILINE))
    tuned = [cells[:3] for cells in rows("## config.properties") if "=" not in cells[0]]
    assert tuned == [[f"`{key}`", f"{low:,} to {high:,}", shipped[key]] for key, (low, high) in TUNABLE.items()]


@pytest.mark.parametrize(("command", "option"), options(), ids=[f"{c} {o}" for c, o in options()])
def test_option(command: str, option: str) -> None:
    if option in ("-h", "--help") or command == "garrison":
        assert re.search(rf"`(garrison )?{option}`", section("## Commands"))
        return
    headings = [
        heading for heading in re.findall(r"^### (garrison .*)$", REFERENCE, re.MULTILINE) if command in heading
    ]
    cells = " ".join(row[0] for heading in headings for row in rows(f"### {heading}"))
    assert re.search(rf"`{re.escape(option)}[ `]", cells)


def test_launcher_events() -> None:
    told = {event for module in set(OTHER_MODULES) - set(CELL_MODULES) for event in first_texts(module, {"tell"})}
    listed = set(re.findall(r"^\| `launcher` \| `(\w+)` \|", section("## The log"), re.MULTILINE))
    assert told
    assert listed == told


def test_events_of_the_cell() -> None:
    told = {event for module in CELL_MODULES for event in first_texts(module, {"tell"})}
    told |= set(re.findall(r'return "(\w+)"', (PACKAGE / "cell" / "vitals.py").read_text()))  # a worker's excesses
    assert {cells[1].strip("`") for cells in rows("## The log") if cells[0] == "`cell`"} == told


def test_parts_of_the_posture() -> None:
    assert {cells[0].strip("`") for cells in rows("### garrison posture") if "-" not in cells[0]} == set(PARTS)


def events_in(source: str) -> list[str]:
    return re.findall(r'"event": ?"(\w+)"', source)


def test_events_of_the_servers() -> None:
    sources = [(PACKAGE / module).read_text() for module in OTHER_MODULES]
    sources.append((REPOSITORY / "config" / "log4j2.xml").read_text())
    written = {event for text in sources for event in events_in(text)}
    written |= {
        event for name in ("__main__", "service") for event in first_texts(BUDGET.format(name), {"log", "_log"})
    }
    listed = {cells[1].strip("`") for cells in rows("## The log") if cells[0] not in ("`launcher`", "`cell`")}
    assert listed == written


def test_fields_of_a_request_event() -> None:
    (described,) = (cells[2] for cells in rows("## The log") if cells[:2] == ["`gateway`", "`request`"])
    assert set(re.findall(r"`(\w+)`", described)) == {*TEXTS, *NUMBERS}


def test_variables_of_make() -> None:
    variables = re.findall(r"^(\w+) \?=", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(variables) <= {cells[0].strip("`") for cells in rows("## Environment variables")}


def test_environment_variables() -> None:
    text = section("## Environment variables")
    assert [name for name in sorted({*_KEPT_VARIABLES, *KEPT_VARIABLES}) if f"`{name}`" not in text] == []


def test_variables_that_the_launcher_sets() -> None:
    source = (PACKAGE / "torchserve" / "server.py").read_text()
    names = re.findall(r'"((?:GARRISON|PROMETHEUS)_[A-Z_]+)"', source)
    assert names
    assert [name for name in names if f"`{name}`" not in section("## Environment variables")] == []


def test_password_variable() -> None:
    assert PASSWORD_VARIABLE in [cells[0].strip("`") for cells in rows("## Environment variables")]


def test_files_of_the_store() -> None:
    listed = section("## Files")
    names = (audit.LOG_FILE, store.QUARANTINE, store.REASON_FILE, RECORD_FILE, SIGNATURE_FILE, ".lock", ".staging-")
    assert [name for name in names if name not in listed] == []


def test_sockets() -> None:
    sources = [(PACKAGE / name).read_text() for name in ("sockets.py", "torchserve/server.py")]
    made = {name for source in sources for name in re.findall(r'"(\w+\.sock)"', source)}
    assert made <= {cells[0].strip("`").removeprefix("RUN/") for cells in rows("## Listeners")}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_metric(family: Family) -> None:
    labels = " ".join(f"`{label}`" for label in family.labels)
    assert [f"`{family.name}`", family.kind, labels] in [cells[:3] for cells in rows("## Metrics")]


def test_metrics_are_no_more_than_there_are() -> None:
    assert len(rows("## Metrics")) == len(FAMILIES)
    assert all(f"`{step}`" in section("## Metrics") for step in STEPS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_names_no_path_of_one_machine(document: Path) -> None:
    assert PRIVATE_PATHS.findall(document.read_text()) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_resolve(document: Path) -> None:
    targets = [target for target in LINK.findall(document.read_text()) if "://" not in target]
    broken = [target for target in targets if not _resolves(document, target)]
    assert broken == []


def _resolves(document: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = document.parent / name if name else document
    return path.exists() and (not anchor or anchor in _anchors(path))


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
