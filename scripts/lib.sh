# shellcheck shell=sh disable=SC2034,SC3045 # some names are for those who source it; dash has ulimit -H
# lib.sh - what the scripts share: packages, the build out of tree, the count of
# the tests. Sourced by the others with $top set to the top of the checkout.
# Plain POSIX sh: a bare Debian has nothing else.

: "${top:?lib.sh is sourced by the other scripts}"

say () {
    printf '%s\n' "== $*"
}

fail () {
    printf '%s\n' "$0: $*" >&2
    exit 1
}

# ---- packages

build_packages='gcc libc6-dev make autoconf automake libtool pkg-config|pkgconf libzmq3-dev libjsmn-dev'
test_packages='check g++'
bench_packages='libnng-dev libczmq-dev gnuplot-nox'

package_there () {
    dpkg -s "$1" 2>/dev/null | grep -q '^Status: install ok installed'
}

# Prints those of the named packages that are not installed; a|b: either will do.
packages_missing () {
    for wanted in "$@"; do
        found=no
        for one in $(printf '%s' "$wanted" | tr '|' ' '); do
            if package_there "$one"; then found=yes; fi
        done
        if [ "$found" = no ]; then printf '%s ' "${wanted%%|*}"; fi
    done
}

# Installs what is missing of the named packages, and asks nobody anything when
# nothing is.
need_packages () {
    if ! command -v dpkg >/dev/null 2>&1; then
        say "no dpkg here, so nothing is installed; needed are (by their Debian names): $*"
        return 0
    fi
    missing=$(packages_missing "$@")
    if [ -z "$missing" ]; then return 0; fi
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        as_root=sudo
    else
        fail "these packages are missing, and without root or sudo they cannot be installed here:
    apt-get install $missing"
    fi
    mkdir -p "$top/build"
    say "apt-get install $missing(log in build/apt.log)"
    apt="env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
    # shellcheck disable=SC2086 # words, not one argument
    logged "$top/build/apt.log" $as_root $apt update
    # shellcheck disable=SC2086
    logged "$top/build/apt.log" $as_root $apt install -y --no-install-recommends $missing
}

# ---- the build

processors () {
    nproc 2>/dev/null || echo 1
}

# How many programs of tests run side by side: nearly always they wait, on two
# processors for four fifths of their time.
tests_at_once () {
    echo $((2 * $(processors)))
}

# Runs a command with its output in a file; shows the end of it if it fails.
logged () {
    log=$1
    shift
    if "$@" >"$log" 2>&1 </dev/null; then return 0; fi
    tail -n 60 "$log" >&2
    fail "this failed: $* (all of it: $log)"
}

# Generates configure once; make does it again when configure.ac changes.
need_configure () {
    if [ -f "$top/configure" ] && [ -f "$top/Makefile.in" ] && [ -f "$top/build-aux/ltmain.sh" ]; then return 0; fi
    say "autogen.sh"
    mkdir -p "$top/build"
    logged "$top/build/autogen.log" "$top/autogen.sh"
}

# Configures in a directory, unless it was with the same options while the same
# optional things were there.
configure_in () {
    dir=$1
    shift
    if [ -f "$top/config.status" ]; then
        fail "this checkout is configured in place; run 'make distclean' first, these scripts build in build/"
    fi
    optional=$(for one in check libczmq; do pkg-config --modversion "$one" 2>/dev/null || echo none; done | tr '\n' ' ')
    if [ -f /usr/include/nng/nng.h ]; then optional=${optional}nng; fi
    state="$* CC=${CC-} CXX=${CXX-} CFLAGS=${CFLAGS-} optional=$optional"
    if [ -f "$dir/configured" ] && [ "$(cat "$dir/configured")" = "$state" ]; then return 0; fi
    mkdir -p "$dir"
    say "configure${*:+ $*} (in ${dir#"$top/"})"
    rm -f "$dir/configured"
    (cd "$dir" && logged configure.log "$top/configure" "$@") || exit 1
    printf '%s\n' "$state" >"$dir/configured"
}

build_in () {
    dir=$1
    shift
    say "make $* (in ${dir#"$top/"})"
    logged "$dir/make.log" make -C "$dir" -j"$(processors)" "$@"
}

# The stress test with 1,000 servers in one process needs more descriptors than
# the usual 1,024; no test needs more than 65,536.
raise_descriptors () {
    hard=$(ulimit -Hn)
    case $hard in
        unlimited) hard=65536 ;;
        *) if [ "$hard" -gt 65536 ]; then hard=65536; fi ;;
    esac
    ulimit -Sn "$hard" 2>/dev/null || say "the limit of open files stays at $(ulimit -Sn)"
}

# ---- counting

# Prints 'passed failed skipped', summed over the results that make check left
# in a build directory. A program of Check counts by its own closing lines
# ('95%: Checks: 40, Failures: 1, Errors: 1'); a shell test by its lines that
# begin with ok, not ok, FAIL or skip, or as one test if it prints none. A test that
# failed without counting a failure (a crash, say) counts as one.
count_results () {
    find "$1" -name '*.trs' -exec grep -l '^:test-result:' {} + | sort | while read -r trs; do
        result=$(sed -n 's/^:test-result: *\([A-Z]*\).*/\1/p' "$trs" | head -n 1)
        awk -v result="$result" '
            /^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+$/ {
                gsub (/,/, "")
                bad = $5 + $7; failed += bad; passed += $3 - bad; counted = 1
            }
            /^ok /    { passed++; counted = 1 }
            /\(exit status: [0-9]+\)$/ { next }
            /^(not ok|FAIL) / { failed++; counted = 1 }
            /^skip /  { skipped++; counted = 1 }
            END {
                good = (result == "PASS" || result == "XFAIL")
                if (!counted && good) passed = 1
                if (!counted && result == "SKIP") skipped = 1
                if (!good && result != "SKIP" && !failed) failed = 1
                print passed + 0, failed + 0, skipped + 0
            }' "${trs%.trs}.log"
    done | awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }'
}

# Prints 'N passed, N failed' and what was skipped.
total_line () {
    printf '%s passed, %s failed' "$1" "$2"
    if [ "$3" -gt 0 ]; then printf ', %s skipped' "$3"; fi
    printf '\n'
}
