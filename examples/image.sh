#!/bin/sh
# Makes the one image of all examples from Debian packages: nginx, PostgreSQL, Redis, Prometheus and
# Python. No registry is asked. Needs root, mmdebstrap, docker and a Debian mirror; the packed root
# file system is kept below target/ and made anew when this file changes.
set -eu

image=netd-examples/debian
packages=nginx-light,postgresql-15,redis-server,prometheus,python3-psycopg2,python3-redis,curl,iputils-ping
# What no example runs: half of the size.
unused='doc man locale info javascript fonts i18n'

here=$(cd "$(dirname "$0")" && pwd)
cache=${NETD_EXAMPLES_CACHE:-$here/../target/examples}
recipe=$(sha256sum "$0" | cut -c1-12)
archive=$cache/debian-$recipe.tar

if docker image inspect "$image:$recipe" >/dev/null 2>&1; then
    exit 0
fi
if [ ! -e "$archive" ]; then
    mkdir -p "$cache"
    rm -rf "$archive.part"
    echo "making $archive from Debian packages, once" >&2
    without=
    for directory in $unused; do
        without="$without --dpkgopt=path-exclude=/usr/share/$directory/*"
    done
    # The JIT compiler of PostgreSQL and a second program of Prometheus are large and not used either.
    for file in 'libLLVM*' 'libz3*'; do
        without="$without --dpkgopt=path-exclude=/usr/lib/x86_64-linux-gnu/$file"
    done
    # Each word of $without is an option of its own, and none is a pattern of this shell's.
    set -f
    mmdebstrap --quiet --mode=root --variant=essential --format=tar --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/bin/promtool' $without \
        bookworm "$archive.part"
    set +f
    mv "$archive.part" "$archive"
    find "$cache" -name 'debian-*.tar' ! -name "debian-$recipe.tar" -delete
fi
docker import "$archive" "$image:$recipe" >/dev/null
docker tag "$image:$recipe" "$image"
