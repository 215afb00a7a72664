#!/bin/sh
# Goal: a program outside the tree can be built with pkg-config alone against an
# installed prefix, in C and in C++, against the shared and against the static
# library, and it runs; the installed tool runs too.
set -eu
source_dir=$(cd "${srcdir:-.}/tests/install" && pwd)
: "${CC:=cc}" "${PKG_CONFIG:=pkg-config}" "${MAKE:=make}" "${CFLAGS=}" "${SANITIZER_FLAGS=}" "${CXX=}"
unset MAKEFLAGS MFLAGS MAKELEVEL # this is not a part of the make that runs the tests

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
count=0
failures=0

# check WHAT COMMAND...: one test, passed when the command succeeds.
check () {
    what=$1
    shift
    count=$((count + 1))
    if "$@"; then
        echo "ok $count - $what"
    else
        failures=$((failures + 1))
        echo "not ok $count - $what"
    fi
}

# install_to VARIABLE=VALUE...
install_to () {
    $MAKE -s -C "${top_builddir:-.}" install "$@" >"$scratch/install.log" 2>&1 && return 0
    cat "$scratch/install.log"
    return 1
}

# What a packager does: another prefix than configure was told, under a DESTDIR.
check "make install DESTDIR=... prefix=..." install_to DESTDIR="$scratch/stage" prefix=/opt/elsewhere
pc=$(find "$scratch/stage/opt/elsewhere" -name clustertalk.pc)
check "clustertalk.pc names the prefix, not the DESTDIR" \
    test "$($PKG_CONFIG --variable=prefix "$pc")" = /opt/elsewhere

# What a user without root does: a prefix of their own.
prefix=$scratch/prefix
check "make install prefix=..." install_to prefix="$prefix"
pc=$(find "$prefix" -name clustertalk.pc)
lib=$(dirname "$(dirname "$pc")")
PKG_CONFIG_PATH=$(dirname "$pc")${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_PATH
version=$($PKG_CONFIG --modversion clustertalk)
check "clustertalk.pc names the version $version" test "$version" = "${PACKAGE_VERSION:-$version}"

# use PACKAGE: what the programs below are built with. The static library stands
# alone, so that -lclustertalk can mean nothing else.
use () {
    package=$1
    shared_libs=$($PKG_CONFIG --libs "$package" | sed 's, *$,,')
    mkdir -p "$scratch/static"
    if [ -f "$lib/lib$package.a" ]; then cp "$lib/lib$package.a" "$scratch/static"; fi
    static_libs="-L$scratch/static $($PKG_CONFIG --static --libs "$package" | sed "s|-L$lib *||")"
    check "for the shared library it asks for nothing else: $shared_libs" test "$shared_libs" = "-L$lib -l$package"
}

# build_and_run COMPILER SOURCE FLAGS...: in a folder of its own.
build_and_run () {
    compiler=$1
    source=$2
    shift 2
    mkdir -p "$scratch/out"
    rm -f "$scratch/out/consumer"
    # shellcheck disable=SC2046,SC2086 # words, not one argument
    (cd "$scratch/out" && cp "$source_dir/$source" . &&
        $compiler -Wall -Wextra -Wpedantic -Werror $CFLAGS $SANITIZER_FLAGS $($PKG_CONFIG --cflags "$package") "$source" -o consumer "$@" &&
        LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ./consumer "$version")
}

consumers () { # language, compiler, source
    if [ -e "$lib/lib$package.so" ]; then
        # shellcheck disable=SC2086
        check "$1, shared" build_and_run "$2" "$3" $shared_libs
    else
        echo "skip - $1, shared: no shared library was built"
    fi
    if [ -f "$lib/lib$package.a" ]; then
        # shellcheck disable=SC2086
        check "$1, static: $static_libs" build_and_run "$2" "$3" $static_libs
    else
        echo "skip - $1, static: no static library was built"
    fi
}
use clustertalk
consumers C "$CC -std=c11" consumer.c
if [ -n "$CXX" ]; then
    consumers C++ "$CXX -std=c++11" consumer.cc
else
    echo "skip - C++: no C++ compiler (Debian: apt-get install g++)"
fi

use clustertalk-sim
consumers "C, simulated" "$CC -std=c11" simulated.c
if [ -n "$CXX" ]; then
    consumers "C++, simulated" "$CXX -std=c++11 -x c++" simulated.c
fi

tool_says () {
    LD_LIBRARY_PATH=$lib "$prefix/bin/clustertalk" --version | grep -F "$version"
}
check "the installed tool runs" tool_says

[ "$failures" -eq 0 ]
