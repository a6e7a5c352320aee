#!/usr/bin/env bash
# The arrows between the modules: fails on an #include under src/ that breaks one.
#
#   tools/check-layers.sh [ROOT]        checks ROOT/src (default: the repository of this script)
#   tools/check-layers.sh --self-test   checks that it finds what it is meant to find
#
# Prints "file:line: include: rule" for each include that breaks a rule; exit 0 none, 1 some.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

check() {
    local root=$1

    [[ -d $root/src ]] || { echo "check-layers: no directory '$root/src'" >&2; return 2; }
    (cd "$root" && find src -type f \( -name '*.c' -o -name '*.h' \) | LC_ALL=C sort |
        LC_ALL=C awk '
        function complain(rule) {
            printf "%s:%d: %s: %s\n", file, line_number, shown, rule
            bad = 1
        }

        # Files of a module that may see a thing are named by what their path matches.
        function check_library(header) {
            if (header ~ /^raft(\.h$|\/)/) {
                if (file !~ /^src\/raft_fsm\/raft_driver(_[a-z]+)?\.[ch]$/)
                    complain("<raft.h> belongs to raft_fsm/raft_driver*.{h,c} alone")
            } else if (header ~ /^uv(\.h$|\/)/) {
                if (module == "raft_fsm" ? file !~ /^src\/raft_fsm\/(group|link)[a-z_0-9]*\.[ch]$/ \
                                         : module !~ /^(transport|server|client|cli)$/)
                    complain("<uv.h> belongs to transport, server, client, cli, and in raft_fsm to group* and link*")
            } else if (header ~ /^isa-l(\.h$|\/)/) {
                if (module != "base")
                    complain("ISA-L belongs to base")
            } else if (header ~ /^(google\/)?protobuf-c\// || header ~ /\.pb-c\.h$/) {
                check_proto()
            } else if (header ~ /^(uthash|utlist|utarray|utstring|utstack)\.h$/) {
                if (module == "base")
                    complain("base may use only libc and ISA-L")
            } else if (header ~ /^(lz4|lz4frame|zstd|zstd_errors)\.h$/) {
                if (module != "record")
                    complain("compression belongs to record")
            } else if (header ~ /^(lmdb\.h|bloom\.h|libbloom\/)/) {
                if (module != "lookup")
                    complain("LMDB and Bloom filters belong to lookup")
            } else if (header ~ /^(openssl\/|jansson|ini\.h|check\.h|lmdb|lz4|zstd|bloom|sqlite3|microhttpd)/) {
                if (module ~ /^(base|log)$/)
                    complain(module == "base" ? "base may use only libc and ISA-L" : "log may use only base")
            }
        }

        function check_proto() {
            if (module !~ /^(server|client|cli)$/ && file !~ /^src\/raft_fsm\/((command|command_topic|manifest|snapshot_file|group_peers|group_inbound)\.c|(unpack|topic_settings_message)\.[ch])$/)
                complain("protobuf messages belong to raft_fsm/{command,command_topic,manifest,snapshot_file,topic_settings_message,unpack,group_{peers,inbound}}.c, server, client, cli")
        }

        function check_own(header,    target) {
            if (header ~ /\.pb-c\.h$/) {
                check_proto()
                return
            }
            target = header
            if (!sub(/\/.*/, "", target) || !(target in uses) || header ~ /(^|\/)\.\.?\// ) {
                complain("includes are in full from src/, as \"log/log.h\"")
                return
            }
            if (target == module)
                return
            if (index(uses[module], " " target " ") == 0) {
                complain(module " may use only" (uses[module] == " " ? " itself" : uses[module]))
                return
            }
            if ((module, target) in narrow) {
                if (header != narrow[module, target])
                    complain(module " may use only " narrow[module, target] " of " target)
            } else if (target != "base" && !(header in public) && !((module, target) in inside) && !((module, header) in allowed)) {
                complain("private to " target)
            }
        }

        BEGIN {
            # What stands above it.
            uses["base"] = " "
            uses["log"] = " base "
            uses["record"] = " base log "
            uses["transport"] = " base "
            uses["raft_fsm"] = " base log record transport "
            uses["lookup"] = " base log record raft_fsm "
            uses["archive"] = " base log record lookup raft_fsm "
            uses["checker"] = " base "
            uses["sim"] = " base log record raft_fsm checker "
            uses["server"] = " base log record transport raft_fsm lookup archive "
            uses["client"] = " base log record transport "
            uses["cli"] = " base log record transport client server lookup archive checker sim "
            narrow["client", "log"] = "log/batch.h"
            narrow["record", "log"] = "log/batch.h"
            inside["sim", "raft_fsm"] # It does what a group does around a replica.
            # It reads the files of a node that does not run, each by the header that owns its format.
            allowed["archive", "log/index.h"]; allowed["archive", "log/segment.h"]
            allowed["archive", "raft_fsm/journal_segment.h"]; allowed["archive", "raft_fsm/journal_recovery.h"]
            allowed["archive", "raft_fsm/raft_disk.h"]; allowed["archive", "raft_fsm/entry.h"]
            allowed["archive", "lookup/part.h"]; allowed["archive", "lookup/time_part.h"]
            allowed["archive", "lookup/bloom_part.h"]; allowed["archive", "lookup/key_run.h"]
            public["log/log.h"]; public["log/batch.h"]; public["log/store.h"]; public["transport/transport.h"]
            public["transport/waker.h"]
            public["record/record.h"]; public["record/record_set.h"]; public["record/codec.h"]
            public["record/batch_cut.h"]; public["record/batch_records.h"]; public["record/filter.h"]
            public["record/latest.h"]; public["record/compactor.h"]
            public["raft_fsm/topic_settings.h"]; public["raft_fsm/retention.h"]; public["lookup/lookup.h"]
            public["raft_fsm/group.h"]; public["raft_fsm/command.h"]; public["raft_fsm/digest.h"]
            public["raft_fsm/membership.h"]; public["raft_fsm/producers.h"]
            public["raft_fsm/membership_plan.h"]; public["raft_fsm/recovery.h"]
            public["raft_fsm/cursors.h"]
            public["raft_fsm/manifest.h"]; public["raft_fsm/ballot.h"]
            public["raft_fsm/chain.h"]; public["archive/proof.h"]; public["archive/backup.h"]
            public["archive/restore.h"]; public["archive/identity_file.h"]; public["archive/dump.h"]; public["archive/fsck.h"]
            public["server/server.h"]; public["server/restore.h"]; public["client/client.h"]
            public["client/cursor.h"]; public["client/share.h"]
            public["checker/history.h"]; public["checker/checker.h"]
            public["sim/cluster.h"]; public["sim/campaign.h"]
            # What the header of a group shows is public with it.
            while ((getline text < "src/raft_fsm/group.h") > 0)
                if (split(text, part, "\"") >= 2 && text ~ /^#include "raft_fsm\//)
                    public[part[2]]
        }

        {
            file = $0
            module = file
            sub(/^src\//, "", module)
            if (!sub(/\/.*/, "", module) || !(module in uses)) {
                printf "%s:1: this directory is not a module: %s\n", file, "see tools/check-layers.sh"
                bad = 1
                next
            }
            line_number = 0
            while ((getline text < file) > 0) {
                line_number++
                if (text !~ /^[ \t]*#[ \t]*include[ \t]*[<"]/)
                    continue
                header = text
                sub(/^[ \t]*#[ \t]*include[ \t]*/, "", header)
                system_header = header ~ /^</
                header = substr(header, 2)
                sub(/[>"].*/, "", header)
                shown = system_header ? "<" header ">" : "\"" header "\""
                if (system_header)
                    check_library(header)
                else
                    check_own(header)
            }
            close(file)
        }

        END { exit bad }')
}

# ---- self-test: trees that must fail, and one that must not ----

tree=
trap '[[ -z $tree ]] || rm -rf "$tree"' EXIT

# put FILE INCLUDE…: a file of the fake tree.
put() {
    local file=$tree/src/$1 include

    shift
    mkdir -p "$(dirname "$file")"
    for include in "$@"; do
        printf '#include %s\n' "$include"
    done >"$file"
}

make_good_tree() {
    tree=$(mktemp -d)
    put base/x.c '"base/x.h"' '<isa-l/crc.h>' '<stdio.h>' '<sys/stat.h>'
    put log/segment.c '"log/segment.h"' '"base/x.h"' '<string.h>' '<utlist.h>'
    put transport/conn.c '"transport/conn.h"' '"base/x.h"' '<uv.h>'
    put raft_fsm/raft_driver.h '<raft.h>' '"base/x.h"'
    put raft_fsm/command.c '"replicated.pb-c.h"' '"log/batch.h"' '<openssl/evp.h>'
    put raft_fsm/group.h '"raft_fsm/replica.h"' '"transport/transport.h"'
    put raft_fsm/group_link.c '<uv.h>' '"log/log.h"'
    put raft_fsm/link.c '<uv.h>'
    put server/api.c '"raft_fsm/group.h"' '"raft_fsm/replica.h"' '"quorlog.pb-c.h"' '<uv.h>' \
        '"log/log.h"' '"transport/transport.h"' '<jansson.h>'
    put archive/backup.c '"archive/backup.h"' '"raft_fsm/manifest.h"' '"log/log.h"' '<jansson.h>'
    put sim/node.c '"sim/node.h"' '"raft_fsm/replica.h"' '"log/log.h"' '"checker/history.h"'
    put checker/history.c '"checker/history.h"' '"base/x.h"' '<jansson.h>'
    put client/client.c '"log/batch.h"' '"transport/transport.h"' '"quorlog.pb-c.h"' '<uv.h>'
    put cli/dump.c '"log/log.h"' '"client/client.h"' '"server/server.h"' '"cli/x.h"'
}

# must_fail FILE RULE INCLUDE…: a file with these includes breaks a rule whose text has RULE, at
# its last include and nowhere else.
must_fail() {
    local file=$1 rule=$2 output
    local -a includes=("${@:3}")

    [[ ! -e $tree/src/$file ]] # The good files stay.
    put "$file" "${includes[@]}"
    if output=$(check "$tree"); then
        echo "not found: ${includes[*]} in $file" >&2
        return 1
    fi
    rm "$tree/src/$file"
    if [[ $output != "src/$file:${#includes[@]}: ${includes[-1]}: "*"$rule"* || $output == *$'\n'* ]]; then
        printf 'wrong report on %s in %s:\n%s\n' "${includes[*]}" "$file" "$output" >&2
        return 1
    fi
}

self_test() {
    local output

    make_good_tree
    output=$(check "$tree") || { printf 'a good tree fails:\n%s\n' "$output" >&2; return 1; }
    [[ -z $output ]]

    must_fail base/a.c 'base may use only' '<stdio.h>' '"log/log.h"'
    must_fail base/a.c 'libc and ISA-L' '<utlist.h>'
    must_fail base/a.c 'libc and ISA-L' '<openssl/evp.h>'
    must_fail base/a.c '<uv.h> belongs' '<uv.h>'
    must_fail log/a.c 'log may use only base' '"base/x.h"' '"transport/transport.h"'
    must_fail log/a.c '<uv.h> belongs' '<uv.h>'
    must_fail log/a.c 'ISA-L belongs' '<isa-l/crc.h>'
    must_fail log/a.c 'protobuf' '<protobuf-c/protobuf-c.h>'
    must_fail transport/a.c 'transport may use only base' '"log/log.h"'
    must_fail transport/a.c 'protobuf' '"quorlog.pb-c.h"'
    must_fail raft_fsm/a.c 'raft_driver' '<raft.h>'
    must_fail raft_fsm/raft_drivers.c 'raft_driver' '<raft.h>'
    must_fail server/a.c 'raft_driver' '<raft/uv.h>'
    must_fail raft_fsm/fsm.c '<uv.h> belongs' '<uv.h>'
    must_fail raft_fsm/fsm.c 'protobuf' '"replicated.pb-c.h"'
    must_fail raft_fsm/command.h 'protobuf' '"replicated.pb-c.h"'
    must_fail raft_fsm/a.c 'raft_fsm may use only' '"server/server.h"'
    must_fail raft_fsm/a.c 'private to log' '"log/segment.h"'
    must_fail raft_fsm/a.c 'private to transport' '"transport/conn.h"'
    must_fail server/a.c 'private to raft_fsm' '"raft_fsm/journal.h"'
    must_fail server/a.c 'server may use only' '"cli/x.h"'
    must_fail client/a.c 'log/batch.h of log' '"log/log.h"'
    must_fail client/a.c 'client may use only' '"raft_fsm/group.h"'
    must_fail archive/a.c 'archive may use only' '"server/server.h"'
    must_fail archive/a.c 'private to raft_fsm' '"raft_fsm/fsm_internal.h"'
    must_fail archive/a.c 'private to lookup' '"lookup/part.h"' '"lookup/lookup.h"' '"lookup/key_file.h"'
    must_fail server/a.c 'private to lookup' '"lookup/part.h"'
    must_fail archive/a.c 'LMDB' '<lmdb.h>'
    must_fail client/a.c 'client may use only' '"archive/chain.h"'
    must_fail checker/a.c 'checker may use only base' '"log/log.h"'
    must_fail sim/a.c 'private to log' '"log/segment.h"'
    must_fail sim/a.c '<uv.h> belongs' '<uv.h>'
    must_fail cli/a.c 'private to server' '"server/config.h"'
    must_fail cli/a.c 'cli may use only' '"raft_fsm/group.h"'
    must_fail log/a.c 'in full from src/' '"segment.h"'
    must_fail log/a.c 'in full from src/' '"../base/x.h"'
    must_fail log/a.c 'in full from src/' '"log/../base/x.h"'
    must_fail log/a.c 'in full from src/' '"nowhere/x.h"'

    # Spaces around the sign and a comment behind hide nothing; neither does a new directory.
    mkdir "$tree/src/stray"
    printf '\n  #  include   <raft.h> /* x */\n' >"$tree/src/log/a.c"
    printf '#include <stdio.h>\n' >"$tree/src/stray/a.c"
    if output=$(check "$tree"); then
        echo 'not found: a hidden include, a new directory' >&2
        return 1
    fi
    [[ $output == 'src/log/a.c:2: <raft.h>: '*$'\n''src/stray/a.c:1: '*'not a module'* ]]
}

case ${1-} in
--self-test) self_test ;;
-*) echo "usage: ${0##*/} [ROOT | --self-test]" >&2; exit 2 ;;
*) check "${1:-$here}" ;;
esac
