#include "data/man_page.h"

#include <algorithm>

#include "data/roff/mdoc_writer.h"

namespace colossus {
namespace {

std::string_view next_line(std::string_view& rest) {
  const size_t end = std::min(rest.find('\n'), rest.size());
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return line;
}

bool is_request(std::string_view line, std::string_view name) {
  if (line.empty() || (line.front() != '.' && line.front() != '\'')) return false;
  line.remove_prefix(1);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  return line.starts_with(name) &&
         (line.size() == name.size() || line[name.size()] == ' ' || line[name.size()] == '\t');
}

template <class Writer>
std::string render_with(std::string_view source) {
  Writer writer;
  roff::Interpreter interpreter(writer);
  writer.attach(interpreter);
  interpreter.run(source);
  return writer.take();
}

}  // namespace

bool looks_like_man_page(std::string_view sample) {
  while (!sample.empty()) {
    const std::string_view line = next_line(sample);
    if (is_request(line, "TH") || is_request(line, "Dd") || is_request(line, "Dt") || is_request(line, "so"))
      return true;
  }
  return false;
}

std::string render_man_page(std::string_view source) {
  bool refers = false;
  for (std::string_view rest = source; !rest.empty();) {
    const std::string_view line = next_line(rest);
    if (is_request(line, "Dd") || is_request(line, "Dt")) return render_with<roff::MdocWriter>(source);
    if (is_request(line, "TH")) return render_with<roff::ManWriter>(source);
    refers = refers || is_request(line, "so");
  }
  return refers ? std::string() : render_with<roff::ManWriter>(source);
}

}  // namespace colossus
