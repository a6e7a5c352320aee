# The keys of the configuration as list items: awk -f keys.awk SAMPLE quorlog.conf.5.in, where SAMPLE is what
# `quorlog config show --sample` prints: for each key "# help", "# (range)", "#name = default", an empty line.

function plain(text) {
    gsub(/\\/, "\\e", text)
    sub(/^[.']/, "\\\\\\&&", text)
    return text
}

FNR == NR && /^# \(.*\)$/ {range = plain(substr($0, 4, length($0) - 4)); next}
FNR == NR && /^# / {help = help (help == "" ? "" : "\n") plain(substr($0, 3)); next}
FNR == NR && match($0, /^#[a-z_]+ = ?/) {
    name = $0
    sub(/^#/, "", name)
    sub(/ =.*/, "", name)
    value = plain(substr($0, RLENGTH + 1))
    items = items ".It Ic " name "\n" toupper(substr(help, 1, 1)) substr(help, 2) ".\n"
    if (range != "")
        items = items toupper(substr(range, 1, 1)) substr(range, 2) "; "
    items = items (value == "" ? "no default.\n" : "default " value ".\n")
    help = range = ""
    count++
    next
}
FNR == NR {next}
/^@KEYS@$/ {printf "%s", items; next}
{print}

END {
    if (count == 0) {
        print "keys.awk: no key in the sample" > "/dev/stderr"
        exit 1
    }
}
