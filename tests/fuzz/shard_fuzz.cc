// A shard of tokens. Unless the first byte is odd, checksums are made to fit, so that what they guard is reached.
#include "data/shard.h"

#include <cstring>

#include "data/shard_layout.h"
#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"

using namespace colossus;

namespace {

using shard_layout::Footer;
using shard_layout::Header;

template <class Frame>
uint64_t checksum_of(const Frame& frame) {
  return checksum(std::as_bytes(std::span(&frame, 1)).first(offsetof(Frame, checksum)));
}

void mend_checksums(std::string& file) {
  if (file.size() < sizeof(Header) + sizeof(Footer)) return;
  Header header;
  Footer footer;
  std::memcpy(&header, file.data(), sizeof(header));
  std::memcpy(&footer, file.data() + file.size() - sizeof(footer), sizeof(footer));
  header.checksum = footer.header_checksum = checksum_of(header);
  const auto all = std::as_writable_bytes(std::span(file));
  const auto middle = all.subspan(sizeof(Header), file.size() - sizeof(Header) - sizeof(Footer));
  // Of files that are smaller than a block: one checksum of it all.
  if (middle.size() >= 8) {
    const uint64_t block = checksum(middle.first(middle.size() - 8));
    std::memcpy(middle.data() + middle.size() - 8, &block, sizeof(block));
    footer.checksums_checksum = checksum(middle.last(8));
  } else {
    footer.checksums_checksum = checksum(middle.first(0));
  }
  footer.checksum = checksum_of(footer);
  std::memcpy(file.data(), &header, sizeof(header));
  std::memcpy(file.data() + file.size() - sizeof(footer), &footer, sizeof(footer));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  InputParts parts(text_of(bytes, size));
  const bool mends = parts.byte() % 2 == 0;
  std::string content(parts.rest());
  if (mends) mend_checksums(content);
  MemoryFiles files;
  files.put("a.tokens", content);
  const auto shard = Shard::open(files, "a.tokens");
  if (!shard.ok()) return 0;
  const int64_t num_tokens = shard->counts().num_tokens, num_documents = shard->counts().num_documents;
  CHECK(num_tokens <= static_cast<int64_t>(size) && num_documents <= num_tokens);
  std::vector<int32_t> tokens(static_cast<size_t>(num_tokens));
  const bool readable = shard->read_tokens(0, tokens).ok();
  for (const int64_t token : {int64_t{0}, num_tokens / 2, num_tokens - 1})
    if (token >= 0 && token < num_tokens)
      if (const auto document = shard->document_of(token); document.ok())
        CHECK(*document >= 0 && *document < num_documents);
  if (!shard->verify().ok()) return 0;
  note_accepted();
  CHECK(readable);
  std::vector<uint32_t> ends(static_cast<size_t>(num_documents));
  CHECK(shard->read_document_ends(0, ends).ok());
  auto writer = ShardWriter::create(files, "b.tokens", shard->identity());
  CHECK(writer.ok());
  size_t begin = 0;
  for (const uint32_t end : ends) {
    CHECK(writer->append(std::span(tokens).subspan(begin, end - begin)).ok(), "ids are of the vocabulary");
    writer->end_document();
    begin = end;
  }
  writer->add_source_bytes(shard->counts().num_source_bytes);
  CHECK(writer->finish().ok());
  const auto again = Shard::open(files, "b.tokens");
  CHECK(again.ok() && again->verify().ok() && again->counts() == shard->counts());
  std::vector<int32_t> same(tokens.size());
  CHECK(again->read_tokens(0, same).ok() && same == tokens, "a shard is written and read again equal");
  return 0;
}
