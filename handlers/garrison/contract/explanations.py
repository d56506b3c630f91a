"""The contract's section `explanations`: whether clients may ask why, by which method, and at what cost.

Without the section there are no explanations. Each costs up to `max_evaluations` runs of the model, and tells more of
the model than an answer does; so an author turns them on, and bounds them.
"""

from dataclasses import dataclass

from garrison.contract.bounds import Input
from garrison.contract.image import ImageInput
from garrison.contract.table import TableInput
from garrison.contract.tensor import TensorInput
from garrison.settings import Settings

GRADIENTS = "integrated-gradients"
ABLATION = "feature-ablation"
METHODS = (GRADIENTS, ABLATION)
EXPLAINED_TASKS = {  # task: the methods that fit it
    "image-classification": METHODS,
    "text-classification": (ABLATION,),  # a token's number has no gradient
    "tabular": METHODS,
    "tensor": METHODS,
}
MAX_GRID = 32
MAX_EVALUATIONS = MAX_GRID**2 + 1  # every cell of the finest grid, and the whole picture
MIN_CELL_PIXELS = 2  # one pixel a cell would be the gradient itself: see docs/explanation.md
FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Explanations:
    """How an answer is explained: in at most `max_evaluations` runs of the model beside the answer's own.

    A picture's explanation has `grid` by `grid` cells; `grid` is 0 for other inputs.
    """

    method: str
    max_evaluations: int
    grid: int = 0


def read_explanations(settings: Settings, task: str, inputs: tuple[Input, ...]) -> Explanations | None:
    """Read the section of a task; problems are noted in `settings`."""
    if "explanations" not in settings:
        return None
    section = settings.section("explanations", "{method: feature-ablation, max_evaluations: 64}")
    pictured = task == "image-classification" and settings.sound("task")
    explanations = Explanations(
        method=section.choice("method", METHODS),
        max_evaluations=section.integer("max_evaluations", 2, MAX_EVALUATIONS),
        grid=section.integer("grid", 1, MAX_GRID) if pictured or "grid" in section else 0,
    )
    if settings.sound("task") and task not in EXPLAINED_TASKS:
        settings.problem("explanations", f"{task} has none; take the section out")
    elif settings.sound("task", "inputs") and len(inputs) == 1:
        _check_fit(section, explanations, task, inputs[0])
    return explanations


def _check_fit(section: Settings, explanations: Explanations, task: str, item: Input) -> None:
    if section.sound("method") and explanations.method not in EXPLAINED_TASKS[task]:
        section.problem("method", f"{task} has no gradients; write {ABLATION}")
    if explanations.grid and not isinstance(item, ImageInput):
        section.problem("grid", "only pictures have one; take it out")
    elif isinstance(item, ImageInput) and section.sound("grid"):
        _check_grid(section, explanations.grid, item)
    if isinstance(item, TensorInput) and explanations.method == GRADIENTS and item.dtype not in FLOATS:
        section.problem("method", f"{item.dtype} has no gradients; write {ABLATION}")
    if explanations.method == ABLATION and section.sound("method", "max_evaluations", "grid"):
        needed = count_features(explanations, item) + 1
        if needed > explanations.max_evaluations:
            section.problem("max_evaluations", _advise(needed, item))


def count_features(explanations: Explanations, item: Input) -> int:
    """Count what is left out in turn, at most: cells, columns or values; a text's tokens are counted when it comes."""
    if isinstance(item, ImageInput):
        return explanations.grid**2
    if isinstance(item, TableInput):
        return len(item.columns)
    return item.max_values if isinstance(item, TensorInput) else 1


def _check_grid(section: Settings, grid: int, image: ImageInput) -> None:
    most = max(1, min(image.shape[:2]) // MIN_CELL_PIXELS)
    if grid > most:
        section.problem("grid", f"{grid} is more than {most}: a cell is at least 2 by 2 pixels, as the model sees them")


def _advise(needed: int, item: Input) -> str:
    if needed > MAX_EVALUATIONS and not isinstance(item, ImageInput):
        return f"{ABLATION} needs {needed}, which is too many; write the method {GRADIENTS}"
    return f"{ABLATION} needs {needed}; write at least that{', or a smaller grid' * isinstance(item, ImageInput)}"
