#!/bin/bash
# From nothing to a model you can talk to: finds text on this machine, trains a tokenizer and a small Grok on it, and
# opens a prompt. Each stage leaves a mark when it is done, so that after Ctrl-C (or a crash) the next call goes on there.
#   TEXT=dir     your own text instead: files of plain text, Markdown, JSON lines or manual pages, plain, gzip or zstd
#   FRESH=1      start over; the model there was is kept as out/demo.previous
#   COLOSSUS=path of the command
set -euo pipefail
cd "$(dirname "$0")/.."

colossus=${COLOSSUS:-build/release/bin/colossus}
config=configs/runs/demo.toml
out=out/demo
text=${TEXT:-}
min_bytes=3000000               # with less the model only learns it by heart
max_bytes=40000000              # more than 4 minutes of training on two cores can read
vocabulary=4096

interactive() { [[ -t 0 && -t 1 ]]; }
say() {
  if [[ -t 1 ]]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}
fail() {
  echo "demo: $*" >&2
  exit 2
}

# "size path" lines, each size as it will be when unpacked (text packs about 3.5 times).
unpacked_sizes() { awk '{ size = $1; if ($2 ~ /\.(gz|zst)$/) size *= 3.5; printf "%d %s\n", size, $2 }'; }
total_bytes() { awk '{ sum += $1 } END { printf "%d\n", sum }' "$1"; }
# Keeps about $1 bytes, spread evenly over the list on stdin: the first names of the alphabet are no fair sample.
thinned_to() {
  awk -v limit="$1" '{ size[NR] = $1; line[NR] = $0; all += $1 }
    END { for (i = 1; i <= NR; ++i) { passed += size[i]; if (all <= limit || kept + size[i] <= passed * limit / all) { print line[i]; kept += size[i] } } }'
}

# Names with blanks are left out: they would need quoting on every way below. Without the folder, find says nothing.
list_files() { find "$@" -type f -readable -size -1024k -printf '%s %p\n' 2>/dev/null | awk 'NF == 2' | LC_ALL=C sort -k 2 | unpacked_sizes; }
list_manual_pages() { list_files /usr/share/man/man[1-8]; }
list_documentation() {
  list_files /usr/share/doc '(' -iname 'readme*' -o -iname 'news*' -o -name '*.txt' -o -name '*.txt.gz' -o -name '*.md' \
    -o -name '*.md.gz' -o -name '*.rst' -o -name '*.rst.gz' ')'
}
list_headers() { list_files /usr/include; }

# The files of this machine, the most readable kind first, until there is enough.
gather_text() {
  local list=$out/files.part found=0 kind
  : > "$list"
  for kind in manual_pages documentation headers; do
    local left=$((max_bytes - found))
    ((left > max_bytes / 100)) || break
    # A minimal system has no manual pages or documentation at all: then the next kind has to do.
    list_$kind | thinned_to $left > "$list.kind" || true
    printf '  %-14s %6d files  %5.1f MB\n' "${kind/_/ }" "$(wc -l < "$list.kind")" \
      "$(awk '{ sum += $1 } END { print sum / 1e6 }' "$list.kind")"
    cat "$list.kind" >> "$list"
    found=$(total_bytes "$list")
  done
  if ((found < min_bytes)); then
    fail "only $((found / 1000)) kB of text on this machine (manual pages, documentation, headers); a model needs" \
      "$((min_bytes / 1000000)) MB. Give a directory of your own: make demo TEXT=dir"
  fi
  # A copy: an upgrade of the system must not change the text between two stages.
  { rm -rf "$out/text" && mkdir -p "$out/text" && cut -d ' ' -f 2 "$list" | xargs cp --parents -t "$out/text"; } ||
    fail "could not copy $((found / 1000000)) MB of text to $out/text"
  rm -f "$list" "$list.kind"
}

check_own_text() {
  [[ -e $text ]] || fail "TEXT=$text is not there"
  local bytes
  bytes=$(find -L "$text" -type f -printf '%s %p\n' | sed 's/ .*\.\(gz\|zst\)$/ x.\1/; t; s/ .*/ x/' | unpacked_sizes | total_bytes /dev/stdin)
  ((bytes >= min_bytes)) ||
    fail "TEXT=$text holds $((bytes / 1000)) kB of text; a model needs about $((min_bytes / 1000000)) MB"
}

# stage name command...: runs it unless it was done before. Ctrl-C ends the demo; what is done stays.
stage() {
  local mark=$out/.done_$1 status=0
  shift
  [[ -e $mark ]] && return
  "$@" || status=$?
  if ((status == 130)); then
    echo "demo: stopped; make demo goes on from here" >&2
    exit 130
  fi
  ((status == 0)) || { echo "demo: \"${*:1:2} ...\" failed with exit code $status (colossus --help says what it means)" >&2; exit "$status"; }
  : > "$mark"
}

start_over() {
  [[ -e $out ]] || return 0
  rm -rf "$out.previous"
  mv "$out" "$out.previous"
  echo "the demo there was is now $out.previous"
}

# A slip in TEXT must not cost the model there is.
[[ -z $text ]] || check_own_text
[[ -x $colossus ]] || fail "$colossus is not there; run make first"
trap 'echo "demo: stopped; make demo goes on from here" >&2; exit 130' INT TERM

if [[ -n ${FRESH:-} ]]; then
  start_over
elif [[ -n $text && -e $out/text_source && $(<"$out/text_source") != "$text" ]]; then
  echo "the text is another one than last time: starting over"
  start_over
elif [[ -e $out/.done_train ]] && interactive; then
  printf 'A trained model is here. Enter: talk to it. f: start over. '
  read -r answer || exit 0
  [[ $answer != f* ]] || start_over
fi
mkdir -p "$out"
if [[ ! -e $out/text_source ]]; then printf '%s' "$text" > "$out/text_source"; fi
text=$(<"$out/text_source")

if [[ ! -e $out/.done_train ]]; then
  say "1/4  Text"
  if [[ -n $text ]]; then
    inputs=$text
  else
    stage text gather_text
    inputs=$out/text
  fi
  echo "  $inputs"

  say "2/4  Tokenizer: $vocabulary symbols learned from the text"
  stage tokenizer "$colossus" tokenizer train --vocab "$vocabulary" --out "$out/tokenizer.json" "$inputs"

  say "3/4  Shards: the text as tokens, a part held out for validation"
  stage shards "$colossus" data build --tokenizer "$out/tokenizer.json" --out "$out/shards" "$inputs"

  say "4/4  Training a small Grok; Ctrl-C saves, and make demo goes on"
  stage train "$colossus" train "$config" --data "$out/shards" --out "$out/run"
fi

if [[ ! -e $out/.done_shown ]]; then
  say "How well it predicts text it has not seen"
  "$colossus" eval loss "$out/run" --data "$out/shards"
  say "What it writes"
  for prompt in "The " "If you want to" "NAME"; do
    "$colossus" generate "$out/run" --prompt "$prompt" --temperature 0.8
    echo
  done
  : > "$out/.done_shown"
fi

if interactive; then
  say "Talk to it (Ctrl-D ends)"
  trap - INT TERM
  exec "$colossus" chat --complete "$out/run"
fi
echo "Talk to it:  $colossus chat --complete $out/run"
