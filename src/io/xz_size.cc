#include "io/xz_size.h"

#include <lzma.h>

#include <algorithm>
#include <vector>

namespace colossus {

Result<int64_t> xz9_bytes(std::string_view text) {
  lzma_options_lzma options;
  lzma_lzma_preset(&options, 9);
  // A dictionary beyond the text changes nothing but the memory it takes.
  uint32_t dictionary = LZMA_DICT_SIZE_MIN;
  while (dictionary < text.size() && dictionary < options.dict_size) dictionary *= 2;
  options.dict_size = std::min(dictionary, options.dict_size);
  lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  lzma_stream stream = LZMA_STREAM_INIT;
  if (lzma_stream_encoder(&stream, filters, LZMA_CHECK_CRC64) != LZMA_OK)
    return exhausted("xz: no memory for the encoder");
  std::vector<uint8_t> out(1 << 16);
  stream.next_in = reinterpret_cast<const uint8_t*>(text.data());
  stream.avail_in = text.size();
  lzma_ret result = LZMA_OK;
  while (result == LZMA_OK) {
    stream.next_out = out.data();
    stream.avail_out = out.size();
    result = lzma_code(&stream, LZMA_FINISH);
  }
  const auto bytes = static_cast<int64_t>(stream.total_out);
  lzma_end(&stream);
  if (result != LZMA_STREAM_END) return exhausted("xz: the encoder gave up");
  return bytes;
}

}  // namespace colossus
