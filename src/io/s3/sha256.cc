#include "io/s3/sha256.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/check.h"

namespace colossus {

Sha256 sha256(std::span<const std::byte> bytes) {
  Sha256 hash{};
  CHECK(EVP_Digest(bytes.data(), bytes.size(), hash.data(), nullptr, EVP_sha256(), nullptr) == 1,
        "OpenSSL has SHA-256");
  return hash;
}

Sha256 sha256(std::string_view text) { return sha256(std::as_bytes(std::span(text.data(), text.size()))); }

Sha256 hmac_sha256(std::string_view key, std::string_view text) {
  Sha256 hash{};
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  CHECK(
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes, text.size(), hash.data(), nullptr) != nullptr,
      "OpenSSL has HMAC");
  return hash;
}

std::string to_hex(const Sha256& hash) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : hash) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace colossus
