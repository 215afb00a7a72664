#!/bin/sh
# Runs the benches, some ten minutes; installs and builds what is missing before,
# in build/. nng, CZMQ and gnuplot are installed for it, too.
#
#   sh scripts/bench.sh [OPTIONS OF bench/run.sh]
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/lib.sh"

# shellcheck disable=SC2086 # words, not one argument
need_packages $build_packages $bench_packages
need_configure
configure_in "$top/build"
build_in "$top/build" all bench
raise_descriptors
exec sh "$top/bench/run.sh" --build "$top/build" "$@"
