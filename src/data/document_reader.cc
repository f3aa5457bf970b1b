#include "data/document_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "data/man_page.h"
#include "io/checked_json.h"

namespace colossus {
namespace {

constexpr size_t kMaxLineBytes = size_t{256} << 20;    // of JSON lines
constexpr size_t kMaxManPageBytes = size_t{32} << 20;  // decompressed
constexpr size_t kMaxNamedFiles = 20;

bool ends_with_any(std::string_view text, std::initializer_list<std::string_view> suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(), [&](std::string_view suffix) { return text.ends_with(suffix); });
}

std::string_view without_compression(std::string_view path) {
  for (const std::string_view suffix : {".gz", ".zst", ".gzip", ".zstd"}) {
    if (path.ends_with(suffix)) return path.substr(0, path.size() - suffix.size());
  }
  return path;
}

// name.1, name.3ssl, name.man: the content decides whether it really is one.
bool named_like_man_page(std::string_view path) {
  if (ends_with_any(path, {".man", ".mdoc", ".roff"})) return true;
  const size_t dot = path.rfind('.');
  if (dot == std::string_view::npos || dot + 1 == path.size()) return false;
  const std::string_view section = path.substr(dot + 1);
  return section.size() <= 12 && std::isdigit(static_cast<unsigned char>(section.front())) != 0 &&
         std::all_of(section.begin() + 1, section.end(),
                     [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; });
}

// The field's text. Everything else in the line is checked to be JSON and dropped.
Result<std::string> field_of_line(std::string_view line, const std::string& field) {
  ASSIGN_OR_RETURN(const Json json, parse_checked_json(line));
  if (!json.is_object()) return invalid("the line is not a JSON object");
  const auto found = json.find(field);
  if (found == json.end()) {
    std::string names;
    for (const auto& [name, value] : json.items()) names += (names.empty() ? "" : ", ") + name;
    return invalid(
        fmt::format("the line has no field \"{}\"; it has: {} (choose one with --field)", field, names.substr(0, 200)));
  }
  if (!found->is_string()) return invalid(fmt::format("the field \"{}\" is no text but {}", field, found->type_name()));
  return found->get<std::string>();
}

}  // namespace

Result<DocumentReader> DocumentReader::open(FileSystem& files, const std::vector<std::string>& inputs,
                                            const SourceOptions& options) {
  DocumentReader reader;
  reader.files_ = &files;
  reader.options_ = options;
  ASSIGN_OR_RETURN(reader.sources_, find_source_files(files, inputs));
  for (const SourceFile& file : reader.sources_) reader.counts_.total_bytes += file.size_bytes;
  return reader;
}

DocumentReader::Format DocumentReader::format_of(const std::string& path, std::string_view sample) const {
  const std::string_view name = without_compression(path);
  if (ends_with_any(name, {".jsonl", ".ndjson"})) return Format::kJsonLines;
  return named_like_man_page(name) && looks_like_man_page(sample) ? Format::kManPage : Format::kText;
}

Status DocumentReader::open_next_file() {
  path_ = sources_[next_source_++].path;
  line_ = 0;
  inside_document_ = false;
  ASSIGN_OR_RETURN(auto stream, open_byte_stream(*files_, path_));
  pieces_.emplace(std::move(stream), options_.max_piece_bytes);
  ++counts_.num_files;
  ASSIGN_OR_RETURN(const std::string_view sample, pieces_->peek());
  format_ = format_of(path_, sample);
  if (!looks_binary(sample)) return ok_status();
  ++counts_.num_binary_files;
  if (counts_.binary_files.size() < kMaxNamedFiles) counts_.binary_files.push_back(path_);
  close_file();
  return ok_status();
}

void DocumentReader::close_file() {
  pieces_.reset();
  finished_bytes_ += sources_[next_source_ - 1].size_bytes;
  counts_.consumed_bytes = finished_bytes_;
}

Result<bool> DocumentReader::next(Document& document) {
  while (true) {
    if (!pieces_) {
      if (next_source_ == sources_.size()) return false;
      RETURN_IF_ERROR(open_next_file());
      continue;
    }
    auto found = format_ == Format::kText        ? next_text(document)
                 : format_ == Format::kJsonLines ? next_json_line(document)
                                                 : next_man_page(document);
    RETURN_IF_ERROR(found);
    if (!*found) {
      close_file();
      continue;
    }
    counts_.consumed_bytes =
        finished_bytes_ + std::min(pieces_->consumed_bytes(), sources_[next_source_ - 1].size_bytes);
    counts_.text_bytes += static_cast<int64_t>(document.text.size());
    if (document.starts) ++counts_.num_documents;
    return true;
  }
}

bool DocumentReader::came_before(const Fingerprint& print) {
  if (!options_.dedupe || seen_.insert(print).second) return false;
  ++counts_.num_duplicates;
  return true;
}

Result<bool> DocumentReader::text_came_before(std::string_view first_piece, bool ends) {
  if (!options_.dedupe) return false;
  if (ends) return came_before(fingerprint(first_piece));
  // The fingerprint of the pieces' fingerprints: the same text is always cut at the same places.
  ASSIGN_OR_RETURN(auto stream, open_byte_stream(*files_, path_));
  TextPieces ahead(std::move(stream), options_.max_piece_bytes);
  std::string prints;
  while (true) {
    bool last = false;
    ASSIGN_OR_RETURN(const std::string_view piece, ahead.next_piece(&last));
    const Fingerprint print = fingerprint(piece);
    prints.append(reinterpret_cast<const char*>(&print), sizeof(print));
    if (last) return came_before(fingerprint(prints));
  }
}

Result<bool> DocumentReader::next_text(Document& document) {
  if (line_ > 0) return false;  // the last piece was given
  bool ends = false;
  ASSIGN_OR_RETURN(std::string_view piece, pieces_->next_piece(&ends));
  document.starts = !std::exchange(inside_document_, true);
  document.ends = ends;
  if (ends) line_ = 1;
  if (document.starts) {
    ASSIGN_OR_RETURN(const bool known, text_came_before(piece, ends));
    if (known) return false;
    if (piece.starts_with("\xEF\xBB\xBF")) piece.remove_prefix(3);
    if (piece.empty() && ends) {
      ++counts_.num_empty;
      return false;
    }
  }
  document.text.assign(piece);
  document.place = path_;
  return true;
}

Result<bool> DocumentReader::next_json_line(Document& document) {
  std::string_view line;
  while (true) {
    ++line_;
    const auto more = pieces_->next_line(&line, kMaxLineBytes);
    const std::string place = fmt::format("{}:{}", path_, line_);
    if (!more.ok()) return more.status().code() == ErrorCode::kInvalid ? more.status().at(place) : more.status();
    if (!*more) return false;
    if (line_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto text = field_of_line(line, options_.json_field);
    if (!text.ok()) return text.status().at(place);
    if (text->empty()) ++counts_.num_empty;
    if (text->empty() || came_before(fingerprint(*text))) continue;
    document = {.text = std::move(text).value(), .place = place};
    return true;
  }
}

Result<bool> DocumentReader::next_man_page(Document& document) {
  if (inside_document_) return false;
  inside_document_ = true;
  std::string page;
  for (bool ends = false; !ends;) {
    ASSIGN_OR_RETURN(const std::string_view piece, pieces_->next_piece(&ends));
    if (page.size() + piece.size() > kMaxManPageBytes) {
      return invalid(
          fmt::format("[{}] a manual page of more than {} bytes; give it another suffix to take it as plain text",
                      path_, kMaxManPageBytes));
    }
    page.append(piece);
  }
  std::string text = render_man_page(page);
  if (text.empty()) {  // a page that only refers to another one
    ++counts_.num_empty;
    return false;
  }
  if (came_before(fingerprint(text))) return false;
  document = {.text = std::move(text), .place = path_};
  return true;
}

}  // namespace colossus
