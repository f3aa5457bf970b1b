// Which text trains and which is held out; see build.h for the rule. Internal to build.cc.
#pragma once

#include "data/build.h"

namespace colossus {

constexpr int64_t kManyDocuments = 1000;

// A stretch of text on its way to the tokens of one split.
struct SplitPart {
  std::string text;
  bool validation = false;
  bool starts_document = false;  // the beginning token comes before it
  bool ends_part = false;        // the last of this document in this split
  bool ends_document = false;    // ... and of the whole document: the end token follows
};

class SplitRule {
 public:
  // Reads at most kManyDocuments documents to see how many there are.
  static Result<SplitRule> choose(FileSystem& files, const BuildOptions& options,
                                  FunctionRef<bool(const BuildProgress&)> progress);

  // Cuts the documents, which come in the order of the reader, into parts: appended to `parts`.
  Status split(Document&& document, std::vector<SplitPart>& parts);
  std::string describe() const;

 private:
  SplitRule() = default;

  double fraction_ = 0;
  bool many_ = false;
  std::vector<int64_t> document_bytes_;  // of the few
  int64_t num_started_ = 0;
  int64_t offset_ = 0;     // in the current document
  bool held_out_ = false;  // the current document, of many
};

}  // namespace colossus
