"""`python -m local_agent` is `local-agent`."""

from local_agent.cli.main import main

if __name__ == "__main__":
    main()
