// What etcd, or whoever answers in its place, says.
#include "base/base64.h"
#include "comm/etcd_messages.h"
#include "fuzz/fuzz.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const std::string_view body = text_of(bytes, size);
  if (const auto found = parse_etcd_range(body, "a/b"); found.ok()) {
    note_accepted();
    if (*found) CHECK((*found)->revision > 0);
  }
  static_cast<void>(parse_etcd_put_if(body));
  static_cast<void>(parse_etcd_done(body));
  CHECK(!etcd_error(500, body).ok() && !etcd_error(400, body).ok());
  CHECK(decode_base64(encode_base64(body)) == body, "bytes come back");
  if (const auto decoded = decode_base64(body)) CHECK(encode_base64(*decoded) == body, "there is one spelling");
  return 0;
}
