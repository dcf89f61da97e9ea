#!/bin/sh
# Puts into the folder $1 what checks deploy/: promtool out of Debian's package, without installing it, and Helm and
# Kustomize built from their Go modules at the versions of go.mod. What cannot be had is said and left out: the tests that
# need it are skipped then, except in CI.
set -u
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && target=$(cd "$1" && pwd)

promtool() {
    command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 1
    unpacked=$(mktemp -d) || return 1
    (
        cd "$unpacked" || exit 1
        # Without lists of packages, or with old ones, there is nothing to download; only root can renew them.
        apt-get -qq -o APT::Sandbox::User=root download prometheus 2> /dev/null \
            || { apt-get -qq update && apt-get -qq -o APT::Sandbox::User=root download prometheus; } || exit 1
        dpkg -x prometheus_*.deb . && cp usr/bin/promtool "$target/"
    )
    code=$?
    rm -rf "$unpacked"
    return $code
}

# Not optimised: it takes half the time to build, and each runs for a moment. Go keeps what it compiled for the next time.
charts() {
    command -v go > /dev/null || return 1
    (cd "$here" && GOBIN=$target GOFLAGS=-buildvcs=false go install -ldflags='-s -w' -gcflags='all=-N -l -dwarf=false' tool)
}

missing=0
[ -x "$target/promtool" ] || promtool || { echo "no promtool: Debian's package prometheus cannot be had here" >&2; missing=1; }
charts || { echo "no helm and no kustomize: they need Go 1.26 and the modules of tests/tools/go.mod" >&2; missing=1; }
[ $missing = 0 ] && touch "$target/.complete"
exit 0
