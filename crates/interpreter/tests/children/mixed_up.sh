#!/bin/sh
# A resolver process that answers another conflict.
. "$(dirname "$0")/prelude.sh"
greet "$@"
take 4 >/dev/null
printf '\000\000\000\012C\377\377\377\377\377\377\377\377x' >&0
sleep 600
