"""Run by the system's python3, which has Debian's supervisor: print what supervisord makes of the named files."""

import importlib
import json
import sys


def main() -> None:
    # by name: it ships no types, and only the system's interpreter has it
    ServerOptions = importlib.import_module("supervisor.options").ServerOptions  # noqa: N806 - a class
    Subprocess = importlib.import_module("supervisor.process").Subprocess  # noqa: N806 - a class
    programs = []
    for path in sys.argv[1:]:
        options = ServerOptions()
        options.realize(["-n", "-c", path])
        for group in options.process_group_configs:
            for config in group.process_configs:
                _, argv = Subprocess(config).get_execv_args()
                programs.append({"name": config.name, "argv": argv, "environment": config.environment})
    json.dump(programs, sys.stdout)


main()
