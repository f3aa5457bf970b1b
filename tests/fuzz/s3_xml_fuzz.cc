// What an S3 service answers.
#include "io/s3/xml.h"

#include "fuzz/fuzz.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const std::string_view xml = text_of(bytes, size);
  for (const char* name : {"Contents", "CommonPrefixes", "Key", "Size", "ETag", "Code", "NextContinuationToken"})
    for (const std::string_view found : xml_elements(xml, name)) {
      note_accepted();
      CHECK(found.empty() || (found.data() >= xml.data() && found.data() + found.size() <= xml.data() + xml.size()));
      static_cast<void>(xml_text(found, "Key"));
    }
  CHECK(xml_decode(xml_encode(xml)) == xml, "a text comes back");
  CHECK(xml_decode(xml).size() <= xml.size());
  return 0;
}
