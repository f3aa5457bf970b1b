#include "data/split_rule.h"

#include <fmt/format.h>

namespace colossus {

Result<SplitRule> SplitRule::choose(FileSystem& files, const BuildOptions& options,
                                    FunctionRef<bool(const BuildProgress&)> progress) {
  SplitRule rule;
  if (options.validation_fraction == 0.0) return rule;
  ASSIGN_OR_RETURN(DocumentReader reader, DocumentReader::open(files, options.inputs, options.source));
  Document document;
  while (static_cast<int64_t>(rule.document_bytes_.size()) < kManyDocuments) {
    ASSIGN_OR_RETURN(const bool more, reader.next(document));
    if (!more) break;
    if (document.starts) rule.document_bytes_.push_back(0);
    rule.document_bytes_.back() += static_cast<int64_t>(document.text.size());
    const SourceCounts& counts = reader.counts();
    if (!progress({.counting = true,
                   .consumed_bytes = counts.consumed_bytes,
                   .total_bytes = counts.total_bytes,
                   .num_documents = counts.num_documents})) {
      return interrupted("stopped while counting documents");
    }
  }
  rule.many_ = static_cast<int64_t>(rule.document_bytes_.size()) == kManyDocuments;
  if (rule.many_) rule.document_bytes_.clear();
  rule.fraction_ = options.validation_fraction.value_or(rule.many_ ? 0.02 : 0.1);
  return rule;
}

Status SplitRule::split(Document&& document, std::vector<SplitPart>& parts) {
  if (document.starts) {
    ++num_started_;
    offset_ = 0;
    held_out_ = many_ && static_cast<double>(checksum(document.text) >> 11) * 0x1p-53 < fraction_;
  }
  const auto size = static_cast<int64_t>(document.text.size());
  int64_t cut = INT64_MAX;
  if (!many_ && fraction_ > 0) {
    if (num_started_ > static_cast<int64_t>(document_bytes_.size())) {
      return unavailable(
          fmt::format("[{}] appeared while the shards were built; run the command again", document.place));
    }
    cut = static_cast<int64_t>(static_cast<double>(document_bytes_[static_cast<size_t>(num_started_ - 1)]) *
                               (1 - fraction_));
  }
  const int64_t begin = offset_;
  offset_ += size;
  if (held_out_ || begin + size <= cut || begin >= cut) {
    const bool validation = held_out_ || begin >= cut;
    // A piece that ends exactly at the cut is the last one of the training side.
    const bool ends_part = document.ends || (!validation && begin + size == cut);
    parts.push_back({.text = std::move(document.text),
                     .validation = validation,
                     .starts_document = document.starts,
                     .ends_part = ends_part,
                     .ends_document = document.ends});
    return ok_status();
  }
  const size_t first = utf8_boundary(document.text, static_cast<size_t>(cut - begin));
  SplitPart rest = {.text = document.text.substr(first),
                    .validation = true,
                    .starts_document = document.starts && first == 0,
                    .ends_part = document.ends,
                    .ends_document = document.ends};
  document.text.resize(first);
  if (first > 0 || begin > 0) {
    parts.push_back({.text = std::move(document.text), .starts_document = document.starts, .ends_part = true});
  }
  parts.push_back(std::move(rest));
  return ok_status();
}

std::string SplitRule::describe() const {
  if (fraction_ == 0) return "nothing is held out";
  if (many_) return fmt::format("a document is held out where the hash of its text is below {}", fraction_);
  return fmt::format("the last {} of each document is held out, by bytes", fraction_);
}

}  // namespace colossus
