"""Each model of a benchmark in a process of its own, so that none leaves anything to the next."""

import json
import os
import subprocess
import sys

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}


def run(script, name, options=(), seconds=None):
    """The row of one model, which `script --measure NAME` prints; {"error": …} if that fails."""
    try:
        process = subprocess.run(
            [sys.executable, script, "--measure", name, *options],
            env={**os.environ, **QUIET},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"more than {seconds} s"}
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        return {"error": lines[-1]}
    return json.loads(process.stdout.splitlines()[-1])


def kept(names, row, file=None):
    """A row of each model, by name; those that a file of JSON holds are not made again."""
    rows = json.loads(file.read_text()) if file is not None and file.exists() else {}
    for name in names:
        if name not in rows:
            rows[name] = row(name)
            summary = {k: v for k, v in rows[name].items() if k not in ("reasons", "at")}
            print(name, summary, file=sys.stderr, flush=True)
        if file is not None:
            file.write_text(json.dumps(rows, indent=1))
    return {name: rows[name] for name in names}


def wanted(parser, only, known):
    """The models asked for, all of them if none is; an error of the parser if one is unknown."""
    if unknown := sorted(set(only or ()) - set(known)):
        parser.error(f"no such model: {', '.join(unknown)}. There are: {', '.join(known)}")
    return only or known


def frozen(rows):
    """Prints what is frozen and why, the rarest reasons first."""
    print("\nFrozen:\n")
    models = {}
    for name, row in rows.items():
        for reason in row.get("reasons", {}):
            models.setdefault(reason, []).append(name)
    for reason, found in sorted(models.items(), key=lambda item: len(item[1])):
        print(f"- {reason}: {', '.join(found) if len(found) < len(rows) else 'all models'}")
