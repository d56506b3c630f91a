"""The one way in which a release's tools say no."""


class ReleaseError(Exception):
    """Something has to change before this can be released; `problems` are sentences that say what, and what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
