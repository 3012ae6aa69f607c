"""Run by the interpreter that has prefect 1.4.1: given cases on standard input, print what Prefect makes of them."""

import json
import os
import sys

import prefect.configuration as configuration


def main() -> None:
    results = []
    for case in json.load(sys.stdin):
        os.environ.clear()
        os.environ.update(case)
        config = configuration.load_configuration(
            configuration.DEFAULT_CONFIG,
            user_config_path=os.environ.get("PREFECT__USER_CONFIG_PATH", "~/.prefect/config.toml"),
            backend_config_path=os.environ.get("PREFECT__BACKEND_CONFIG_PATH", "~/.prefect/backend.toml"),
            env_var_prefix="PREFECT",
        )
        agent = config.cloud.agent
        results.append(
            {
                "api": config.cloud.api,
                "backend": config.backend,
                "api_key": config.cloud.api_key,
                "name": agent.name,
                "labels": agent.labels,
                "env": agent.get("env_vars", {}),
                "agent_address": agent.agent_address,
                "log_level": agent.level,
                "cloud_logs": config.cloud.send_flow_run_logs,
                "request_timeout": config.cloud.request_timeout,
            }
        )
    json.dump(results, sys.stdout, default=str)


main()
