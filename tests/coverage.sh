#!/usr/bin/env bash
# Measures which lines and branches of format, journal and recovery the tests go through, and prints a table.
#
#   tests/coverage.sh          runs the tests (minutes) and prints the table
#   tests/coverage.sh missed   prints it again, with the branches that only went one way
#
# Needs a nightly with llvm-tools and cargo-llvm-cov. Code of tests does not count, nor do the switches of
# planted faults. Branches are those of `if`, `while`, `&&`, `||` and guards, each with two ways to go.
set -euo pipefail
cd "$(dirname "$0")/.."
report="${CARGO_TARGET_DIR:-target}/branches.lcov"

if [[ ${1:-} != missed ]]; then
    cargo +nightly llvm-cov --branch --all-features --lib --bins --tests --no-report
    cargo +nightly llvm-cov report --branch --lcov --output-path "$report"
fi

# Each row of the table: a name, and how the paths of its files begin.
rows='
record               src/record/
segment              src/segment/
journal              src/journal/
log: recovery        src/log/recover.rs src/log/settle.rs src/log/section.rs src/log/delete_records.rs src/log/epochs.rs
log: segments        src/log/segment/
log: the rest        src/log/
checkpoint           src/engine/checkpoint/ src/engine/image.rs src/engine/codec.rs src/engine/files.rs
offsets              src/group/offset
engine: recovery     src/engine/recovery/ src/engine/catalogue.rs src/engine/reserve.rs src/engine/report.rs
'

awk -v rows="$rows" -v root="$PWD/" -v missed="${1:-}" '
    BEGIN {
        count = split(rows, lines, "\n")
        for (i = 1; i <= count; i++) {
            name = substr(lines[i], 1, 20)
            if (sub(/ +$/, "", name) || name != "") {
                names[++n] = name
                begins[n] = substr(lines[i], 21)
            }
        }
    }
    function row_of(path,   i, j, k, parts) {
        for (i = 1; i <= n; i++) {
            k = split(begins[i], parts, " ")
            for (j = 1; j <= k; j++) if (index(path, parts[j]) == 1) return i
        }
        return 0
    }
    /^SF:/ {
        path = substr($0, 4)
        sub("^" root, "", path)
        row = path ~ /\/tests?[\/.]|models\.rs$/ ? 0 : row_of(path)
        delete text; number = 0; last = 1e9
        if (row) while ((getline line < path) > 0) {
            text[++number] = line
            if (line == "mod tests {" && text[number - 1] == "#[cfg(test)]") last = number - 2
        }
        close(path)
    }
    !row { next }
    { split(substr($0, index($0, ":") + 1), field, ",") }
    field[1] > last || text[field[1]] ~ /planted/ { next }
    /^DA:/ { all_lines[row]++; if (field[2] > 0) seen_lines[row]++ }
    /^BRDA:/ {
        all[row]++
        if (field[4] != "-" && field[4] > 0) seen[row]++
        else if (missed != "") printf "%s:%d: %s %s\n", path, field[1], (field[3] % 2 ? "never false:" : "never true:"), text[field[1]]
    }
    END {
        print "| module | lines | branches |\n|---|---|---|"
        for (i = 1; i <= n; i++)
            printf "| %s | %.1f %% of %d | %.1f %% of %d |\n", names[i], \
                100 * seen_lines[i] / all_lines[i], all_lines[i], 100 * seen[i] / all[i], all[i]
    }
' "$report"
