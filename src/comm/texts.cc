#include "comm/texts.h"

#include <fmt/format.h>

namespace colossus {

Result<std::vector<std::string>> exchange_texts(Communicator& ranks, const std::vector<std::string>& texts,
                                                int64_t max_bytes) {
  const auto size = static_cast<size_t>(ranks.size());
  CHECK(texts.size() == size);
  std::vector<int64_t> sent(size), received(size);
  std::vector<std::span<const std::byte>> send(size);
  std::vector<std::span<std::byte>> receive(size);
  for (size_t i = 0; i < size; ++i) {
    sent[i] = static_cast<int64_t>(texts[i].size());
    send[i] = std::as_bytes(std::span(&sent[i], 1));
    receive[i] = std::as_writable_bytes(std::span(&received[i], 1));
  }
  RETURN_IF_ERROR(ranks.all_to_all(send, receive));
  int64_t total = 0;
  for (size_t i = 0; i < size; ++i) {
    if (received[i] < 0 || received[i] > max_bytes - total)
      return exhausted(fmt::format("rank {} sends {} bytes of text; at most {} were expected of all ranks", i,
                                   received[i], max_bytes));
    total += received[i];
  }
  std::vector<std::string> result(size);
  for (size_t i = 0; i < size; ++i) {
    result[i].resize(static_cast<size_t>(received[i]));
    send[i] = std::as_bytes(std::span(texts[i]));
    receive[i] = std::as_writable_bytes(std::span(result[i]));
  }
  RETURN_IF_ERROR(ranks.all_to_all(send, receive));
  return result;
}

Result<std::vector<std::string>> share_texts(Communicator& ranks, const std::string& mine, int64_t max_bytes) {
  return exchange_texts(ranks, std::vector<std::string>(static_cast<size_t>(ranks.size()), mine), max_bytes);
}

}  // namespace colossus
