# lint.awk - the rules of docs/style.md that a program can check, over C sources.
# Run by tests/lint.sh with -v root=DIR/; prints one line a finding: "kind|key|sentence".

function finding(kind, key, sentence)
{
    print kind "|" key "|" sentence
}

# The line without comments and without the insides of literals.
function code_of(line,    out, at)
{
    out = ""
    while (line != "") {
        if (in_comment) {
            at = index(line, "*/")
            if (at == 0)
                return out
            line = substr(line, at + 2)
            in_comment = 0
        } else if (!match(line, /["']|\/\*|\/\//)) {
            return out line
        } else {
            out = out substr(line, 1, RSTART - 1)
            line = substr(line, RSTART)
            if (substr(line, 1, 2) == "//")
                return out
            if (substr(line, 1, 2) == "/*") {
                in_comment = 1
                line = substr(line, 3)
            } else if (match(line, /^"([^"\\]|\\.)*"/) || match(line, /^'([^'\\]|\\.)*'/)) {
                out = out "\"\""
                line = substr(line, RLENGTH + 1)
            } else {
                line = substr(line, 2)
            }
        }
    }
    return out
}

# Name of the last NAME( on the line, "" if none: the signature of a function.
function called_name(code)
{
    if (!match(code, /[A-Za-z_][A-Za-z0-9_]*\(/))
        return ""
    return substr(code, RSTART, RLENGTH - 1)
}

function check_words(code, words, what,    rest, name)
{
    rest = " " code
    while (match(rest, /[^A-Za-z0-9_.>"][A-Za-z_][A-Za-z0-9_]*[ ]*\(/)) {
        name = substr(rest, RSTART + 1, RLENGTH - 2)
        sub(/ *$/, "", name)
        sub(/^__builtin_/, "", name)
        if (name in words)
            finding("call", path, path ":" FNR ": " name "() " what)
        rest = substr(rest, RSTART + RLENGTH - 1)
    }
}

function make_set(set, list,    parts, n, i)
{
    n = split(list, parts, " ")
    for (i = 1; i <= n; i++)
        set[parts[i]] = 1
}

function end_of_file()
{
    if (path != "" && last_line > 600)
        finding("file", path, path ": " last_line " lines; a file has at most 600")
}

BEGIN {
    make_set(ending, "exit _exit _Exit quick_exit abort assert raise signal sigaction")
    make_set(printing, "printf vprintf puts putchar putchar_unlocked perror")
    make_set(hidden_input, "getenv secure_getenv setenv putenv setlocale rand srand random srandom")
    names = "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp10 " \
            "exp2 expm1 fdim floor fmax fmin fmod frexp hypot ilogb ldexp lgamma llrint llround " \
            "log log10 log1p log2 logb lrint lround modf nan nearbyint nextafter nexttoward pow " \
            "remainder remquo rint round roundeven scalbln scalbn sin sincos sinh tan tanh tgamma trunc"
    n_names = split(names, name_list, " ")
    for (i = 1; i <= n_names; i++) {
        libm[name_list[i]] = 1
        libm[name_list[i] "f"] = 1
        libm[name_list[i] "l"] = 1
    }
}

FNR == 1 {
    end_of_file()
    path = FILENAME
    if (index(path, root) == 1)
        path = substr(path, length(root) + 1)
    in_comment = 0
    opened = 0
    signature = ""
    product = path ~ /^(src|kernels|mtp|verify)\//
    command = path ~ /^src\/(mtpgen|mtptrace)/
    outside = path ~ /^src\/mtpgen/
}

{
    last_line = FNR
    code = code_of($0)

    width = $0
    gsub(/[\200-\277]/, "", width)
    if (length(width) > 110)
        finding("line", path, path ":" FNR ": " length(width) " columns; a line has at most 110")
    if ($0 ~ /[ \t]$/)
        finding("space", path, path ":" FNR ": space at the end of the line")
    if ($0 ~ /\t/)
        finding("tab", path, path ":" FNR ": tab; indent with four spaces")

    if (code ~ /^[A-Za-z_].*\) *\{/)
        finding("brace", path, path ":" FNR ": the brace of a function stands on its own line")
    if (code ~ /^[A-Za-z_]/ && called_name(code) != "")
        signature = called_name(code)
    if (code == "{") {
        opened = FNR
    } else if (code ~ /^\}/ && opened) {
        if (FNR - opened + 1 > 60)
            finding("function", path ":" signature, path ":" opened ": " signature "() has " \
                    (FNR - opened + 1) " lines from brace to brace; a function has at most 60")
        opened = 0
    }

    if (product) {
        check_words(code, libm, "is libm; results would depend on the C library (docs/arithmetic.md)")
        check_words(code, hidden_input, "is hidden input; pass options as arguments")
    }
    if (product && !command) {
        check_words(code, ending, "would end the caller's process; return a status")
        check_words(code, printing, "prints; the library never does")
        if (code ~ /(^|[^A-Za-z0-9_])(stdout|stderr)([^A-Za-z0-9_]|$)/)
            finding("print", path, path ":" FNR ": the library knows no stdout and no stderr")
    }
    if (outside && $0 ~ /^ *# *include *"/ && $0 !~ /"(mtp|mtpgen[a-z0-9_]*|mtp\/acceptance)\.h"/)
        finding("include", path, path ":" FNR ": mtpgen sees the public header mtp.h alone")
}

END {
    end_of_file()
}
