"""Where facts about this host come from: systemd, the agents, the journal, the state folders."""
