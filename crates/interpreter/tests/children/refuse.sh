#!/bin/sh
# A resolver process that refuses every conflict, and floods its output before each.
. "$(dirname "$0")/prelude.sh"
greet "$@"
while take 4 | od -An -tu1 >/dev/null; do
    yes flood | head -c 2000000
    number=$(take 8 | od -An -to1 | tr ' ' '\\')
    [ -n "$number" ] || exit
    # The rest: oid, two tids, and four parts, the class and three records, each with its length.
    take 24 >/dev/null
    for part in class old committed new; do
        set -- $(take 4 | od -An -tu1)
        take $(($3 * 256 + $4)) >/dev/null
    done
    printf '\000\000\000\015C'"$number"'no!!' >&0
done
