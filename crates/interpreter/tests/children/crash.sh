#!/bin/sh
# A resolver process that ends when it is shown a conflict.
. "$(dirname "$0")/prelude.sh"
greet "$@"
take 4 >/dev/null
kill -SEGV $$
