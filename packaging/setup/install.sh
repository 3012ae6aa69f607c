#!/bin/sh
# Installs the Debian packages of the groups named as arguments (see packages.txt), where they are missing.
# As root or by sudo; says what it does; silent and quick when there is nothing to do.
set -eu

folder=$(dirname "$0")

wanted() { # wanted GROUP: the packages under [GROUP]
    sed -n "/^\[$1\]$/,/^\[/ { /^[a-z0-9]/p }" "$folder/packages.txt"
}

missing() { # missing GROUP...: those of them that are not installed
    for group in "$@"; do
        for package in $(wanted "$group"); do
            dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' ||
                echo "$package"
        done
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "error: this needs root, and there is no sudo: $*" >&2
        echo "hint: as root, once: $0 $groups" >&2
        exit 1
    fi
}

apt_get() { # the network has hiccups: three tries
    for try in 1 2 3; do
        if as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" </dev/null; then
            return 0
        fi
        echo "apt-get $1 failed (try $try of 3)" >&2
        sleep 5
    done
    return 1
}

groups=$*
# shellcheck disable=SC2086 # words on purpose
packages=$(missing $groups)
[ -n "$packages" ] || exit 0

# shellcheck disable=SC2086
echo "==> installing Debian packages:" $packages
command -v apt-get >/dev/null || {
    echo "error: no apt-get here; local-agent is developed and tested on Debian 12 and 13" >&2
    exit 1
}
apt_get update
# shellcheck disable=SC2086
apt_get install --no-install-recommends $packages
