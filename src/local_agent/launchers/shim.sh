#!/bin/sh
# The few lines between the agent and a flow run. It stays the flow run's parent, inside its cgroup, because a scope
# keeps no exit status and a restarted agent is no parent any more.
#
#   shim.sh BASE CGROUP SECONDS FOLDER COMMAND...
#
# waits at the gate (standard input) for a line; without one (the agent died) the flow run never starts. BASE.exit says
# that the gate opened, and later how it ended. CGROUP is "own" where the flow run has one to itself. After SECONDS,
# where given, the command is ended: for launchers that have nobody else to do so while the agent is dead. FOLDER is
# where the command starts.

base=$1
cgroup=$2
seconds=$3
folder=$4
shift 4
stopped=no
# Stopping the scope signals everything in it: outlive the flow run, and note that somebody asked. Caught and not
# ignored, because what is ignored would stay so in the command
trap 'stopped=yes' TERM
trap : HUP INT

# Only builtins from here to the end of `record`: at the end of a burst each process more would be felt.
show() {
    while read -r line; do
        echo "${2##*/} $line"
    done <"$1/$2"
}

cost() {
    while read -r line; do
        case $line in 0::*) counters=/sys/fs/cgroup${line#0::} ;; esac
    done </proc/self/cgroup
    # an empty scope's cgroup is removed at once, so this is the last moment to read what it counted
    for file in memory.peak memory.events cpu.stat io.stat; do
        [ -r "$counters/$file" ] && show "$counters" "$file"
    done
}

# Read only after this process has ended, or cut off if it was killed: the verdict's line tells whether it is whole.
record() {
    {
        echo "$1"
        echo "stopped $stopped"
        [ "$cgroup" != own ] || cost
    } >>"$base.exit" 2>/dev/null
}

if ! read -r gate || [ "$gate" != open ]; then
    record "never-started"
    exit 0
fi
echo started >"$base.exit" || exit 74

if [ -n "$seconds" ]; then
    set -- timeout --foreground --kill-after=10 "$seconds" "$@"
    began=$(date +%s)
fi
# In the foreground: sh starts what it puts into the background with SIGINT and SIGQUIT ignored (POSIX), and then Python
# installs no handler and Prefect's own cancellation does nothing. Traps wait until it has ended
cd -- "$folder" && unset OLDPWD && "$@" </dev/null
code=$?
verdict="exit"
# 124: ended by timeout's SIGTERM; 137: by its SIGKILL. A flow run that exits so by itself does it earlier
if [ -n "$seconds" ] && [ $(($(date +%s) - began)) -ge "${seconds%%.*}" ]; then
    case $code in
        124 | 137) verdict=overran ;;
    esac
fi
record "$verdict $code"
exit "$code"
