#!/bin/sh
# Goal: the shared library exports the calls that the public header declares,
# all of them and nothing else, so that no name outside ctalk_ can clash with
# one of a program; and its soname says which interface it has.
set -eu
top=${srcdir:-$(dirname "$0")/..}
library=${top_builddir:-.}/.libs/libclustertalk.so
if [ ! -e "$library" ]; then
    echo "skip - no shared library was built"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0

${NM:-nm} -D --defined-only "$library" | awk '{ sub (/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u >"$scratch/exported"
sed -n 's/^CTALK_EXPORT.*[ *]\(ctalk_[a-z0-9_]*\) (.*/\1/p' "$top/include/clustertalk.h" |
    LC_ALL=C sort -u >"$scratch/declared"

if [ -s "$scratch/exported" ] && ! grep -v '^ctalk_' "$scratch/exported"; then
    echo "ok 1 - every exported name begins with ctalk_"
else
    echo "not ok 1 - every exported name begins with ctalk_ (see above)"
    status=1
fi
if [ -s "$scratch/declared" ] && diff "$scratch/declared" "$scratch/exported"; then
    echo "ok 2 - $(wc -l <"$scratch/exported") names are exported, those of the header"
else
    echo "not ok 2 - the header's names (<) and the exported ones (>) differ"
    status=1
fi
if objdump -p "$library" | grep -Eq '^ *SONAME +libclustertalk\.so\.[0-9]+$'; then
    echo "ok 3 - $(objdump -p "$library" | sed -n 's/^ *SONAME *//p')"
else
    echo "not ok 3 - the library has no soname with a number"
    status=1
fi
exit $status
