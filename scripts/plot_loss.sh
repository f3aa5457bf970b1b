#!/bin/bash
# Draws the loss curve of a run as an SVG picture. Needs awk and nothing else.
#   scripts/plot_loss.sh out/run > loss.svg          one run: each step thin, a running mean over it, validation as dots
#   scripts/plot_loss.sh out/run metrics.jsonl ...   several directories of runs, or files of metrics, in one picture
#   TITLE="..."   above the picture      FIRST=n   leaves out steps before n (the first few are far above the rest)
set -euo pipefail

if (($# == 0)) || [[ $1 == -* ]]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
files=()
for run in "$@"; do
  file=$run
  [[ -d $run ]] && file=$run/metrics.jsonl
  [[ -r $file ]] || { echo "plot_loss.sh: $file cannot be read; give the directory of a run, or its metrics.jsonl" >&2; exit 3; }
  files+=("$file")
done

awk -v title="${TITLE:-}" -v first_step="${FIRST:-0}" '
  # The number behind "key": in a line of metrics; "" where there is none (or null: the loss was not finite).
  function value(key,    at, rest) {
    at = index($0, "\"" key "\":")
    if (at == 0) return ""
    rest = substr($0, at + length(key) + 3)
    return rest ~ /^-?[0-9]/ ? rest + 0 : ""
  }
  function see(loss) {
    if (low == "" || loss < low) low = loss
    if (high == "" || loss > high) high = loss
  }
  # A round distance between marks of an axis, about `count` of them.
  function mark_distance(span, count,    power, part) {
    power = 10 ^ int(log(span / count) / log(10) + (span < count ? -1 : 0))
    part = span / count / power
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10)
  }
  function x(step) { return left + (step - min_step) * (right - left) / (max_step > min_step ? max_step - min_step : 1) }
  function y(loss) { return bottom - (loss - low) * (bottom - top) / (high - low) }
  function text(at_x, at_y, anchor, what) {
    gsub(/&/, "\\&amp;", what); gsub(/</, "\\&lt;", what)
    printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", at_x, at_y, anchor, what
  }
  function curve(points, color, width, opacity) {
    printf "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" stroke-opacity=\"%s\" stroke-linejoin=\"round\" points=\"%s\"/>\n", color, width, opacity, points
  }

  FNR == 1 { ++runs; name[runs] = FILENAME; sub(/\/?metrics\.jsonl$/, "", name[runs]) }
  { step = value("step") }
  step == "" || step < first_step { next }
  {
    loss = value("train/loss")
    if (loss != "") {
      n = ++steps[runs]; train_step[runs, n] = step; train[runs, n] = loss
      # A mean over about the last five steps, as exact at the start as later; longer ones lag behind the fall.
      weight[runs] = 0.8 * weight[runs] + 1; sum[runs] = 0.8 * sum[runs] + loss
      mean[runs, n] = sum[runs] / weight[runs]
      see(loss)
    }
    loss = value("validation/loss")
    if (loss != "") { n = ++evaluations[runs]; validation_step[runs, n] = step; validation[runs, n] = loss; see(loss) }
    if (min_step == "" || step < min_step) min_step = step
    if (step > max_step) max_step = step
  }

  END {
    if (low == "") { print "plot_loss.sh: no losses in " name[1] > "/dev/stderr"; exit 2 }
    width = 720; height = 400; left = 56; right = width - 20; top = 36; bottom = height - 44
    if (high - low < 1e-9) high = low + 1
    distance = mark_distance(high - low, 6)
    low = distance * int(low / distance); high = distance * (int(high / distance) + 1)
    split("#1f77b4 #d62728 #2ca02c #9467bd #ff7f0e #17becf", colors, " ")

    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n", width, height
    printf "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", width, height
    for (at = low; at <= high + distance / 2; at += distance) {
      printf "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", left, y(at), right, y(at)
      text(left - 6, y(at) + 4, "end", sprintf("%g", at))
    }
    distance = mark_distance(max_step > min_step ? max_step - min_step : 1, 8)
    if (distance < 1) distance = 1
    for (at = distance * int((min_step + distance - 1) / distance); at <= max_step; at += distance) {
      printf "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#ddd\"/>\n", x(at), top, x(at), bottom
      text(x(at), bottom + 16, "middle", at)
    }
    text((left + right) / 2, height - 8, "middle", "step")
    printf "<text transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">nats per token</text>\n", (top + bottom) / 2
    if (title != "") text((left + right) / 2, 20, "middle", title)

    for (run = 1; run <= runs; ++run) {
      color = colors[(run - 1) % 6 + 1]
      raw = smooth = dots = ""
      # More points than the picture has columns only make the file large.
      every = int(steps[run] / (right - left)) + 1
      for (n = 1; n <= steps[run]; n += every) {
        raw = raw sprintf("%.1f,%.1f ", x(train_step[run, n]), y(train[run, n]))
        smooth = smooth sprintf("%.1f,%.1f ", x(train_step[run, n]), y(mean[run, n]))
      }
      if (steps[run]) { curve(raw, color, 1, 0.3); curve(smooth, color, 2, 1) }
      for (n = 1; n <= evaluations[run]; ++n) {
        printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"#fff\" stroke=\"%s\" stroke-width=\"1.5\"/>\n", x(validation_step[run, n]), y(validation[run, n]), color
      }
      last = evaluations[run] ? sprintf(", validation %.3f", validation[run, evaluations[run]]) : ""
      if (steps[run]) {
        at = top + 16 + 18 * (run - 1)
        printf "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"%s\" stroke-width=\"2\"/>\n", right - 34, at - 4, right - 10, at - 4, color
        text(right - 40, at, "end", sprintf("%s: training %.3f%s", runs > 1 ? name[run] : "at the end", mean[run, steps[run]], last))
      }
    }
    print "</svg>"
  }' "${files[@]}"
