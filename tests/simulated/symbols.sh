#!/bin/sh
# Goal: what the simulator runs of the library calls nothing of the system that
# waits, tells the time or reaches the outside past sim/posix.h; and the library
# of the simulator exports the calls of the two public headers and nothing else.
set -eu
top=${srcdir:-$(dirname "$0")/../..}
build=${top_builddir:-.}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0

# Harmless: they compute, or do what no other thread and no clock has a part in.
# (open, flock, fstat, stat, unlink: config files, and the lock of an ipc path.)
cat >"$scratch/harmless" <<'END'
abort bsearch calloc free malloc realloc posix_memalign aligned_alloc qsort strtol strtoul strtoull strtoll
memchr memcmp memcpy memmem memmove memrchr memset strcasecmp strchr strcmp strdup strerror strerror_r strlen
strncasecmp strncmp strnlen strpbrk strrchr strspn strcspn strstr strtod
fprintf fputc fputs fwrite snprintf vsnprintf stderr
gai_strerror getnameinfo inet_ntop inet_pton
open flock fstat stat unlink fxstat xstat access open64 fstat64 stat64 fxstat64 xstat64
pthread_atfork register_atfork pthread_attr_destroy pthread_attr_init pthread_attr_setdetachstate
pthread_attr_setstacksize pthread_cond_destroy pthread_cond_init pthread_getspecific pthread_key_create
pthread_key_delete pthread_mutex_destroy pthread_mutex_init pthread_once pthread_self pthread_equal
pthread_setname_np pthread_setspecific pthread_sigmask sigfillset sigemptyset sigaddset sigdelset
errno_location tls_get_addr stack_chk_fail cpu_model cpu_indicator_init xpg_strerror_r dso_handle
GLOBAL_OFFSET_TABLE ctype_b_loc ctype_tolower_loc ctype_toupper_loc assert_fail isoc99_sscanf sscanf
END
tr ' ' '\n' <"$scratch/harmless" | sed '/^$/d' | LC_ALL=C sort -u >"$scratch/allowed"

# outside LIBRARY: what its objects call that is neither its own nor harmless.
outside () {
    ${NM:-nm} "$1" | awk '$1 == "U" { print $2 }' |
        sed -e '/^ctalk_/d' -e '/^ctki_/d' -e '/^__\(asan\|ubsan\|tsan\|sanitizer\|gcov\|llvm\)_/d' \
            -e 's/^_*//' -e 's/_*$//' -e 's/^isoc[0-9]*_strto/strto/' -e 's/_chk$//' |
        LC_ALL=C sort -u | LC_ALL=C comm -23 - "$scratch/allowed"
}

# result NUMBER WHAT COMMAND...
result () {
    number=$1
    what=$2
    shift 2
    if "$@"; then
        echo "ok $number - $what"
    else
        echo "not ok $number - $what"
        status=1
    fi
}

# The library that is not simulated must be caught: else this looks at nothing.
caught=$(outside "$build/.libs/libctkbase.a" | tr '\n' ' ')
catches () {
    for name in pthread_mutex_lock pthread_create pthread_join pthread_cond_wait clock_gettime getrandom syscall \
        ppoll nanosleep eventfd getaddrinfo; do
        case " $caught" in
        *" $name "*) ;;
        *)
            echo "not caught: $name"
            return 1
            ;;
        esac
    done
}
result 1 "the check catches what reaches the system" catches

found=$(outside "$build/.libs/libctksimbase.a")
printf '%s' "${found:+$found
}"
result 2 "the simulated library reaches the system through sim/posix.h alone" test -z "$found"

library=$build/.libs/libclustertalk-sim.so
if [ -e "$library" ]; then
    ${NM:-nm} -D --defined-only "$library" | awk '{ sub (/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u >"$scratch/exported"
    # What the library without the simulator exports, its header declares; a
    # declared call that is not there yet is the business of tests/symbols.sh.
    ${NM:-nm} -D --defined-only "$build/.libs/libclustertalk.so" | awk '{ sub (/@.*/, "", $3); print $3 }' >"$scratch/both"
    sed -n 's/^CTALK_EXPORT.*[ *]\(ctalk_[a-z0-9_]*\) (.*/\1/p' "$top/include/clustertalk_sim.h" >>"$scratch/both"
    LC_ALL=C sort -u "$scratch/both" >"$scratch/declared"
    result 3 "$(wc -l <"$scratch/exported") names are exported: the library's and those of clustertalk_sim.h" \
        diff "$scratch/declared" "$scratch/exported"
else
    echo "skip - no shared library was built"
fi
exit $status
