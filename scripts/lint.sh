#!/bin/sh
# Runs the linters over the tree: that every source is in Makefile.am, cppcheck,
# clang-tidy (.clang-tidy) and shellcheck. A linter that is not installed is
# named and passed over, unless --all is given: then it is a failure.
#
#   sh scripts/lint.sh [--all]
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/scripts/lib.sh"
cd "$top"
strict=no
case ${1-} in
    '') ;;
    --all) strict=yes ;;
    *) fail "knows only --all, not '$1'" ;;
esac
status=0

sources () {
    find include src config actors sim cli bench examples tests -name '*.[ch]' | LC_ALL=C sort
}

# Whether to go on with a linter.
have () {
    if command -v "$1" >/dev/null 2>&1; then
        say "$1"
        return 0
    fi
    if [ "$strict" = yes ]; then status=1; fi
    say "$1 is not installed (Debian: apt-get install $1)"
    return 1
}

# The lists in Makefile.am are written by hand: a file that is forgotten there
# is missing from the tarball.
say "sources in Makefile.am"
for file in $(sources); do
    if ! grep -q -F -w "$file" Makefile.am; then
        echo "$file is not in Makefile.am"
        status=1
    fi
done

zmq_flags=$(pkg-config --cflags-only-I libzmq check 2>/dev/null || :)
# The quotes in it belong to C, not to the shell.
# shellcheck disable=SC2089
flags="-D_GNU_SOURCE -DPACKAGE_VERSION=\"0\" -I. -Iinclude $zmq_flags"
# shellcheck disable=SC2016
defines=$(sed -n 's/.*\(-D[A-Z_]*\)=.*$(.*/\1="0"/p' Makefile.am | sort -u | tr '\n' ' ')

if have cppcheck; then
    # shellcheck disable=SC2046,SC2086,SC2090 # words, not one argument
    cppcheck --quiet --std=c11 --language=c --platform=unix64 --enable=warning,performance,portability \
        --inline-suppr --suppressions-list=scripts/cppcheck.supp --error-exitcode=1 -j "$(processors)" \
        -D'TAILQ_HEAD(name,type)=struct{struct type*tqh_first;struct type**tqh_last;}' \
        -D'TAILQ_ENTRY(type)=struct{struct type*tqe_next;struct type**tqe_prev;}' \
        $flags $defines $(sources | grep '\.c$') || status=1
fi

if have clang-tidy; then
    # shellcheck disable=SC2016,SC2086,SC2090
    sources | grep '\.c$' | xargs -P "$(processors)" -n 1 sh -c '
        flags=$0
        clang-tidy --quiet "$@" -- -std=gnu11 $flags 2>/dev/null' "$flags $defines" || status=1
fi

if have shellcheck; then
    find . -name '*.sh' -not -path './build*' -print | LC_ALL=C sort | xargs shellcheck -x -S warning || status=1
    shellcheck -x -S warning .ci/run || status=1
fi

if [ "$status" -eq 0 ]; then say "the linters are content"; else say "the linters complain"; fi
exit "$status"
