# A resolver process that is no Python: what the scripts beside this one have in common.

# Reads so many bytes, and not one more.
take() {
    dd bs=1 count="$1" 2>/dev/null
}

# Takes the program, which "$2" says the size of, and the greeting with its length; greets.
greet() {
    size=${2#*read(0, }
    take $((${size%%)*} + 4 + 17)) >/dev/null
    printf '\000\000\000\002R1' >&0
}
