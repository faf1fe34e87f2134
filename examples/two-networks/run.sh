#!/bin/sh
# run.sh build|up|down: the image; the containers and networks; their removal.
set -eu
cd "$(dirname "$0")"
. ../compose.sh

build() {
    ../image.sh
}

project "$@"
