#!/bin/sh
# run.sh build|up|down: the image and the certificate; the containers and networks; their removal.
set -eu
cd "$(dirname "$0")"
. ../compose.sh

build() {
    ../image.sh
    if [ ! -e tls/server.key ]; then
        mkdir -p tls
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
            -subj /CN=shop.example -addext 'subjectAltName=DNS:shop.example,DNS:localhost' \
            -keyout tls/server.key -out tls/server.crt 2>/dev/null
    fi
}

project "$@"
