"""Standard output, which the server reads and believes: forging what it says, flooding what reads it."""

import json
from pathlib import Path

from attacks.escape.model import Escape, Scene

FLOOD_LINES, FLOOD_LINE_BYTES = 60_000, 100
MANY_LINES = 40_000
MUCH_MEMORY_BYTES = 150 * 2**20


def _metric_forged(scene: Scene) -> str:
    numbers = [float(line.split()[-1]) for line in scene.server.metrics().splitlines() if line and line[0] != "#"]
    return "the server counts what was forged" if float(scene.world["forged"]) in numbers else ""


def _describes_forged_pid(scene: Scene) -> str:
    pid = scene.world["forged"]
    return f"the server says that the worker is {pid}" if pid in scene.server.describe(scene.name) else ""


def _forged_event(scene: Scene) -> str:
    for event in scene.server.log():
        if scene.token in json.dumps(event) and (event.get("gate"), event.get("model")) == ("admission", "neighbour"):
            return f"the log says {json.dumps(event)[:200]}"
    return ""


def _spoke_as_neighbour(scene: Scene) -> str:
    lines = [line for line in scene.server.neighbour_lines() if scene.token in line]
    return f"the neighbour is said to have said {lines[0][:100]}" if lines else ""


def _flooded(scene: Scene) -> str:
    count = sum(scene.token in line for line in scene.server.lines())
    return f"{count} lines" if count >= MANY_LINES else ""


def _server_swelled(scene: Scene) -> str:
    grown = _peak(scene) - scene.kept["peak"]
    return f"the server grew by {grown >> 20} MiB" if grown >= MUCH_MEMORY_BYTES else ""


def _remember_peak(scene: Scene) -> None:
    Path(f"/proc/{scene.server.jvm}/clear_refs").write_text("5")  # the highest value starts again from here
    scene.kept["peak"] = _peak(scene)


def _peak(scene: Scene) -> int:
    lines = Path(f"/proc/{scene.server.jvm}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _forge_number(scene: Scene) -> None:
    scene.world["forged"] = str(2**28 + int(scene.token[:6], 16))  # no process has it, and no count


ESCAPES = (
    Escape(
        "forge-metrics",
        "infer",
        "Print a line that the server takes for a measurement, about another model.",
        """
        print(f"[METRICS]PredictionTime.ms:{world['forged']}.0|#ModelName:neighbour,Level:Model|#type:GAUGE|"
              "#hostname:h,1700000000", flush=True)
        """,
        _metric_forged,
        (_forge_number,),
        refused="None",
    ),
    Escape(
        "forge-pid",
        "infer",
        "Print a line by which the server learns a worker's process id: it is what it will kill.",
        "print(f\"[PID]{world['forged']}\", flush=True)",
        _describes_forged_pid,
        (_forge_number,),
        refused="None",
    ),
    Escape(
        "forge-event",
        "load",
        "Print a line that reads as an event of another gate, about another model.",
        """
        print(json.dumps({"gate": "admission", "event": "admitted", "model": "neighbour", "message": world["token"]}),
              flush=True)
        """,
        _forged_event,
        refused="None",
    ),
    Escape(
        "forge-line-break",
        "thread",
        "The same inside one's own line, after a line break of another alphabet.",
        """
        forged = json.dumps({"gate": "admission", "event": "admitted", "model": "neighbour", "message": world["token"]})
        for mark in ("\\r", "\\x0b", "\\x0c", "\\x85", "\\u2028", "\\n"):
            os.write(1, (mark.join(["", forged, ""]) + "\\n").encode())
        """,
        _forged_event,
        refused="None",
    ),
    Escape(
        "speak-as-neighbour",
        "infer",
        "Write into the pipe by which another worker speaks.",
        """
        with open(f"/proc/{world['neighbour']}/fd/1", "w") as pipe:
            pipe.write(world["token"] + "\\n")
        """,
        _spoke_as_neighbour,
    ),
    Escape(
        "flood-log",
        "infer",
        "Print so much that nobody finds anything in the log, and the disk fills.",
        f"""
        for _ in range({FLOOD_LINES}):
            print(world["token"].ljust({FLOOD_LINE_BYTES}, "."))
        sys.stdout.flush()
        """,
        _flooded,
        refused="None",
    ),
    Escape(
        "endless-line",
        "infer",
        "Print without a line break: what reads lines keeps all of it in memory; here 100 MB.",
        """
        line = b"x" * 2**20
        for _ in range(100):
            os.write(1, line)
        """,
        _server_swelled,
        note=(_remember_peak,),
        refused="None",
        alone=True,
    ),
)
