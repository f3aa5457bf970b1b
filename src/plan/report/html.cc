#include "plan/report/html.h"

#include <fmt/format.h>

namespace colossus {
namespace {

// Quiet in light and dark, and distinct on paper.
constexpr std::string_view kStyle = R"css(
:root { --paper:#ffffff; --ink:#1c2024; --muted:#60666d; --rule:#d9dde1; --soft:#f2f4f6;
  --c1:#3c6e9f; --c2:#7ba7cc; --c3:#c98a2d; --c4:#5f9a80; --c5:#a65b5b; --c6:#8570a6; --c7:#9aa36a; --c8:#a9aeb4; }
@media (prefers-color-scheme: dark) { :root { --paper:#15181b; --ink:#e4e7ea; --muted:#98a0a8; --rule:#343a40;
  --soft:#1f2428; --c1:#6ea3d6; --c2:#3f6b93; --c3:#d9a24a; --c4:#72b397; --c5:#c97a78; --c6:#a28cc4; --c7:#b3bd80;
  --c8:#6d747b; } }
@media print { :root { --paper:#ffffff; --ink:#000000; --muted:#444444; --rule:#bbbbbb; --soft:#f2f4f6; --c1:#3c6e9f;
  --c2:#7ba7cc; --c3:#c98a2d; --c4:#5f9a80; --c5:#a65b5b; --c6:#8570a6; --c7:#9aa36a; --c8:#a9aeb4; }
  section { break-inside: avoid-page; } .noprint { display: none; } body { padding: 0; } details { display: block; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 40px 24px 64px; max-width: 1008px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 44px 0 8px; padding-top: 12px; border-top: 1px solid var(--rule); }
h3 { font-size: 14px; margin: 20px 0 4px; }
p { margin: 6px 0; max-width: 96ch; } .muted, figcaption { color: var(--muted); }
p.warning { border-left: 3px solid var(--c5); padding-left: 10px; }
.layout { max-width: none; font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); margin: 20px 0; padding: 0 1px 1px 0; }
.figures div { border: 1px solid var(--rule); margin: 0 -1px -1px 0; padding: 10px 14px; }
.figures b { display: block; font-size: 21px; font-weight: 600; line-height: 1.3; } .figures span { font-size: 12.5px;
  color: var(--muted); display: block; }
ul.basis { margin: 6px 0; padding-left: 20px; } ul.basis li { margin: 2px 0; }
figure { margin: 10px 0 18px; } figcaption { font-size: 13px; margin-top: 4px; max-width: 90ch; }
.wide { overflow-x: auto; } .wide > svg { display: block; width: 100%;
  min-width: 760px; height: auto; }
table { border-collapse: collapse; font-size: 13px; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); } th, td { padding: 4px 12px 4px 0; vertical-align: top;
  border-bottom: 1px solid var(--rule); overflow-wrap: break-word; } td.n, th.n { text-align: right; white-space: nowrap; }
summary { cursor: pointer; color: var(--muted); font-size: 13px; }
i.key { display: inline-block; width: 11px; height: 11px; margin-right: 6px; vertical-align: -1px; }
text { fill: var(--ink); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
text.m { fill: var(--muted); } text.s { font-size: 11px; } text.b { font-weight: 600; } text.inv { fill: var(--paper); }
.f1{fill:var(--c1)} .f2{fill:var(--c2)} .f3{fill:var(--c3)} .f4{fill:var(--c4)} .f5{fill:var(--c5)} .f6{fill:var(--c6)}
.f7{fill:var(--c7)} .f8{fill:var(--c8)} .soft{fill:var(--soft)} .none{fill:none;stroke:var(--muted)}
.b1{background:var(--c1)} .b2{background:var(--c2)} .b3{background:var(--c3)} .b4{background:var(--c4)}
.b5{background:var(--c5)} .b6{background:var(--c6)} .b7{background:var(--c7)} .b8{background:var(--c8)}
.line { stroke: var(--rule); } .strong { stroke: var(--ink); } .dash { stroke: var(--muted); stroke-dasharray: 4 3; }
svg.zoom { cursor: grab; touch-action: pan-y; }
)css";

// Wheel with Ctrl (or a pinch), drag and double click on pictures with a time axis: their group of rectangles is
// scaled, and the labels of the axis, which carry their place, are written anew.
constexpr std::string_view kScript = R"js(
document.querySelectorAll('svg.zoom').forEach(function (svg) {
  var plot = svg.querySelector('g.plot'), ticks = svg.querySelectorAll('text.tick');
  var left = +svg.dataset.left, width = +svg.dataset.width, from = +svg.dataset.from, to = +svg.dataset.to;
  var scale = 1, shift = 0, drag = null;
  function show() {
    shift = Math.min(0, Math.max(width * (1 - scale), shift));
    plot.setAttribute('transform', 'translate(' + shift + ' 0) scale(' + scale + ' 1)');
    ticks.forEach(function (tick) {
      var share = (+tick.dataset.at * width - shift) / (width * scale), seconds = from + share * (to - from);
      tick.textContent = format(seconds, (to - from) / scale);
    });
  }
  function format(seconds, span) {
    return seconds === 0 ? '0' : span < 0.02 ? (seconds * 1e3).toFixed(3) + ' ms' : span < 2 ? (seconds * 1e3).toFixed(1) + ' ms'
      : seconds.toFixed(2) + ' s';
  }
  function place(event) {
    var box = svg.getBoundingClientRect();
    return (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width - left;
  }
  svg.addEventListener('wheel', function (event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    var x = place(event), next = Math.min(400, Math.max(1, scale * Math.exp(-event.deltaY / 200)));
    shift = x - (x - shift) * next / scale;
    scale = next;
    show();
  }, { passive: false });
  svg.addEventListener('pointerdown', function (event) { drag = { x: place(event), shift: shift }; });
  window.addEventListener('pointerup', function () { drag = null; });
  svg.addEventListener('pointermove', function (event) {
    if (!drag) return;
    shift = drag.shift + place(event) - drag.x;
    show();
  });
  svg.addEventListener('dblclick', function () { scale = 1; shift = 0; show(); });
});
)js";

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return count;
}

constexpr double kCharacterWidth = 6.4;

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') escaped += c;
    }
  }
  return escaped;
}

Svg::Svg(double width, double height, std::string_view title) : width_(width), height_(height) {
  body_ = fmt::format("<title>{}</title>\n", escape_html(title));
}

void Svg::rect(double x, double y, double width, double height, std::string_view css_class, std::string_view tip) {
  body_ += fmt::format("<rect x=\"{:.5g}\" y=\"{:.5g}\" width=\"{:.4g}\" height=\"{:.4g}\" class=\"{}\"", x, y, width,
                       height, css_class);
  body_ += tip.empty() ? "/>\n" : fmt::format("><title>{}</title></rect>\n", escape_html(tip));
}

void Svg::text(double x, double y, std::string_view content, std::string_view css_class, std::string_view anchor) {
  body_ += fmt::format("<text x=\"{:.5g}\" y=\"{:.5g}\"", x, y);
  if (!css_class.empty()) body_ += fmt::format(" class=\"{}\"", css_class);
  if (anchor != "start") body_ += fmt::format(" text-anchor=\"{}\"", anchor);
  body_ += fmt::format(">{}</text>\n", escape_html(content));
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  body_ += fmt::format("<line x1=\"{:.5g}\" y1=\"{:.5g}\" x2=\"{:.5g}\" y2=\"{:.5g}\" class=\"{}\"/>\n", x1, y1, x2, y2,
                       css_class);
}

std::string Svg::finish(std::string_view attributes) const {
  return fmt::format("<div class=\"wide\"><svg viewBox=\"0 0 {:.5g} {:.5g}\" role=\"img\" {}>\n{}</svg></div>\n",
                     width_, height_, attributes, body_);
}

double text_width(std::string_view text) { return kCharacterWidth * static_cast<double>(count_characters(text)); }

std::string fit_text(std::string_view text, double width) {
  if (text_width(text) <= width) return std::string(text);
  std::string fitted;
  for (const char c : text) {
    const bool begins = (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (begins && text_width(fitted) + 4 * kCharacterWidth > width) break;
    fitted += c;
  }
  return fitted + "...";
}

std::string html_page(std::string_view title, std::string_view body) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline'\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n"
      "<style>{}</style>\n</head>\n<body>\n{}<script>{}</script>\n</body>\n</html>\n",
      escape_html(title), kStyle, body, kScript);
}

}  // namespace colossus
