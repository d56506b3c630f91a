"""Ask Docker: a command enters, what it printed leaves, and whatever went wrong is told in a sentence."""

import subprocess

from release.errors import ReleaseError


def ask_docker(*arguments: str, about: str, timeout_s: float) -> str:
    """Run a docker command and return its standard output; `about` is what a failure is said of.

    Raises:
        ReleaseError: docker is missing, fails, or takes longer than `timeout_s` seconds.
    """
    command = ["docker", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - no shell; who calls this says `--`, or has checked what it names
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise ReleaseError("docker is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"{about} in {timeout_s} s") from error
    if done.returncode:
        raise ReleaseError(f"{about} ({' '.join(done.stderr.split())[:300]})")
    return done.stdout
