#!/bin/sh
# Makes configure and Makefile.in from configure.ac and Makefile.am. Needed in
# a checkout only: a release tarball has them. scripts/test.sh does it for you.
set -eu
cd "$(dirname "$0")"

missing=
need () { # command, Debian package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need autoreconf autoconf
need automake automake
need libtoolize libtool
need pkg-config pkg-config
if [ -n "$missing" ]; then
    echo "autogen.sh: these tools are missing; on Debian: apt-get install$missing" >&2
    exit 1
fi

mkdir -p build-aux m4
autoreconf -fi
echo "Next: mkdir -p build && cd build && ../configure && make"
