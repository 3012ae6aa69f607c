#!/bin/sh
# The few lines between the agent and a flow run. It stays the flow run's parent, inside its cgroup, because a scope
# keeps no exit status and a restarted agent is no parent any more.
#
#   shim.sh BASE CGROUP SECONDS WAY PERL ENTER FOLDER COMMAND...
#
# reads a token from standard input and waits there, at the gate, for a line; without one (the agent died) the flow run
# never starts. BASE.exit says that the gate opened, and later how it ended. What would let the flow run be started
# again carries the token, which only the agent and its record know. CGROUP is "own" where the flow run has one to
# itself. After SECONDS, where given, the command is ended: for launchers that have nobody else to do so while the agent
# is dead.
#
# The flow run's environment is in the file on descriptor 3, so that nothing of it acts here, and nothing here changes
# it. Whoever becomes the flow run takes it from there and empties the file: as long as it begins with a line of words,
# the flow run has not begun. WAY says who: "plain", a subshell, for a shell that passes on what it reads there; else
# PERL ENTER FOLDER COMMAND (enter.pl), which also leaves the errno in the file where COMMAND cannot be executed.

base=$1
cgroup=$2
seconds=$3
way=$4
shift 4
stopped=no
# Stopping the scope signals everything in it: outlive the flow run, and note that somebody asked. Caught and not
# ignored, because what is ignored would stay so in the command
trap 'stopped=yes' TERM
trap : HUP INT

# Only builtins from here to the end of `finish`: at the end of a burst each process more would be felt, and at the
# process limit there is none to be had.
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

# A pipe in the file's place would hold up whoever opens it for ever.
writable() {
    [ ! -e "$base.exit" ] || [ -f "$base.exit" ]
}

# Read only after this process has ended, or cut off if it was killed: the verdict's line tells whether it is whole.
record() {
    writable || return 0
    {
        echo "$1"
        echo "stopped $stopped"
        [ "$cgroup" != own ] || cost
    } >>"$base.exit" 2>/dev/null
}

# Seconds since the boot: the wall clock may be set meanwhile.
uptime() {
    read -r now </proc/uptime
    now=${now%%.*}
}

# Also where the command could not be forked, which ends this shell: hence the trap on EXIT.
finish() {
    code=$1
    verdict="exit"
    trap - EXIT
    if read -r unable <&3; then
        # words: it never came to it; a number: the errno with which it could not begin
        unable=${unable##*[!0-9]*}
        verdict="unable $token ${unable:-0}"
    elif [ -n "$seconds" ]; then
        # 124: ended by timeout's SIGTERM; 137: by its SIGKILL. A flow run that exits so by itself does it earlier
        uptime
        case $code in
            124 | 137) [ $((now - began)) -lt "${seconds%%.*}" ] || verdict=overran ;;
        esac
    fi
    record "$verdict $code"
    exit "$code"
}

# Given PERL ENTER FOLDER COMMAND, become the command. Ends this process where it cannot.
become() {
    if cd -- "$3" 2>/dev/null; then set -- there "$@"; else set -- elsewhere "$@"; fi
    # what this shell exports by itself
    unset PATH LC_ALL PWD OLDPWD
    # shellcheck source=/dev/null
    . /proc/self/fd/3
    : >/proc/self/fd/3
    # from here on every variable is the flow run's
    [ "$1" = there ] || exit
    shift 4
    # the file is not the flow run's: what it wrote there would be taken for an errno
    exec "$@" 3<&-
}

if ! read -r token || ! read -r gate || [ "$gate" != open ]; then
    record "never-started ${token-}"
    exit 0
fi
# where the disk is full now it runs all the same: its record says that it may have
{ writable && echo started >"$base.exit"; } 2>/dev/null

if [ -n "$seconds" ]; then
    set -- timeout --foreground --kill-after=10 "$seconds" "$@"
    uptime
    began=$now
fi
trap 'finish $?' EXIT
# In the foreground: sh starts what it puts into the background with SIGINT and SIGQUIT ignored (POSIX), and then Python
# installs no handler and Prefect's own cancellation does nothing. Traps wait until it has ended
if [ "$way" = plain ]; then
    (
        # reached only where `become` did not: it tries again, and knows the errno. $$ is the shim, also in here
        trap 'exec "$@" 3<>"/proc/$$/fd/3"' EXIT
        become "$@"
    ) </dev/null
else
    "$@" </dev/null
fi
finish $?
