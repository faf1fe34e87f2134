# What the examples' scripts share: the project directory is the current one. Compose is a plugin of
# docker (version 2) or a program of its own (version 1); both understand these files.

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose "$@"
    else
        docker-compose "$@"
    fi
}

# Runs the verb that the script was called with. With NETD_EXAMPLES_DRIVER=bridge the same project
# comes up on Docker's own bridge networks, to compare.
project() {
    files="-f compose.yaml"
    if [ "${NETD_EXAMPLES_DRIVER:-netd}" = bridge ]; then
        files="$files -f compose.bridge.yaml"
    fi
    case "${1:-}" in
    build) build ;;
    up) build && compose $files up -d ;;
    down) compose $files down -t 1 -v ;;
    *)
        echo "usage: $0 build|up|down" >&2
        exit 2
        ;;
    esac
}
