// Documents out of files of any of the kinds we read: plain text and Markdown (a file is a document), JSON lines (a
// line is one), manual pages (rendered to text); each plain, gzip or zstd. Streaming: memory does not grow with a file.
#pragma once

#include <optional>
#include <unordered_set>

#include "data/source_files.h"
#include "data/text_pieces.h"
#include "io/checksum.h"

namespace colossus {

struct SourceOptions {
  std::string json_field = "text";           // of each line of a .jsonl or .ndjson file
  bool dedupe = false;                       // leave out documents whose text came before
  size_t max_piece_bytes = size_t{4} << 20;  // longer text files come in several pieces
};

// A document or, of a long one, a piece: `starts` and `ends` say which.
struct Document {
  std::string text;   // never empty
  std::string place;  // path, or path:line
  bool starts = true, ends = true;
};

struct SourceCounts {
  int64_t num_files = 0, num_documents = 0, num_duplicates = 0, num_empty = 0, num_binary_files = 0;
  int64_t text_bytes = 0;                       // given out
  int64_t consumed_bytes = 0, total_bytes = 0;  // of the files as they lie on the disk: progress
  std::vector<std::string> binary_files;        // the first 20 of those left out
};

class DocumentReader {
 public:
  static Result<DocumentReader> open(FileSystem& files, const std::vector<std::string>& inputs,
                                     const SourceOptions& options);

  // False when there is nothing more. Errors name the file, for JSON lines file:line. Of two documents with the same
  // text the first stays; finding out costs 16 bytes a document, and long text files are read twice.
  Result<bool> next(Document& document);
  const SourceCounts& counts() const { return counts_; }

 private:
  enum class Format { kText, kJsonLines, kManPage };

  DocumentReader() = default;
  Status open_next_file();
  void close_file();
  Format format_of(const std::string& path, std::string_view sample) const;
  // Each gives the next document of the current file and true, or false at the file's end.
  Result<bool> next_text(Document& document);
  Result<bool> next_json_line(Document& document);
  Result<bool> next_man_page(Document& document);
  Result<bool> text_came_before(std::string_view first_piece, bool ends);
  bool came_before(const Fingerprint& print);

  struct HashFingerprint {
    size_t operator()(const Fingerprint& print) const { return static_cast<size_t>(print.low); }
  };

  FileSystem* files_ = nullptr;
  SourceOptions options_;
  std::vector<SourceFile> sources_;
  size_t next_source_ = 0;
  std::optional<TextPieces> pieces_;  // of the current file
  std::string path_;
  Format format_ = Format::kText;
  int64_t line_ = 0;
  int64_t finished_bytes_ = 0;
  bool inside_document_ = false;
  std::unordered_set<Fingerprint, HashFingerprint> seen_;
  SourceCounts counts_;
};

}  // namespace colossus
