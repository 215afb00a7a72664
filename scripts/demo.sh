#!/bin/sh
# Shows a cluster of five real server processes carry a real file; installs and
# builds what is missing before, in build/. Run again, it only shows.
#
#   sh scripts/demo.sh [OPTIONS OF clustertalk demo] [FILE]
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/lib.sh"

# shellcheck disable=SC2086 # words, not one argument
need_packages $build_packages
need_configure
configure_in "$top/build"
build_in "$top/build" all

if [ $# -eq 0 ]; then
    cd "$top" # where config/local-5.json is
    text=/usr/share/common-licenses/GPL-3
    [ -r "$text" ] || text=$top/COPYING
    set -- --repeat 50 "$text"
fi
say "clustertalk demo $*"
exec "$top/build/clustertalk" demo "$@"
