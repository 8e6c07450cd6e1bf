"""How long `--help` takes, per command: under 0.5 s, the interpreter's own start included."""

import subprocess
import sys
import time

LIMIT = 0.5
COMMANDS = ("adapt", "export", "serve", "blda")


def main() -> int:
    missed = 0
    for command in COMMANDS:
        spent = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", command, "--help"], check=True, stdout=subprocess.DEVNULL)
            spent.append(time.perf_counter() - start)
        verdict = "ok" if min(spent) < LIMIT else "MISSED"
        missed += verdict != "ok"
        print(f"{command} --help: {min(spent):.2f} s (limit {LIMIT} s) {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
