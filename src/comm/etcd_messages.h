// What is said to etcd and what it answers: the v3 API as JSON over HTTP (etcd's documentation, "gRPC gateway"). Keys
// and values travel in base64, 64-bit numbers as text, and what is empty, zero or false is left out. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace colossus {

struct EtcdRequest {
  const char* path;
  std::string body;
};

EtcdRequest etcd_range(std::string_view key);  // of this one key
EtcdRequest etcd_put(std::string_view key, std::string_view value);
EtcdRequest etcd_delete(std::string_view key);
// Puts `value` if the key does not exist, if it holds `expected`, if it was last changed by `revision`.
EtcdRequest etcd_put_if_absent(std::string_view key, std::string_view value);
EtcdRequest etcd_put_if_value(std::string_view key, std::string_view expected, std::string_view value);
EtcdRequest etcd_put_if_revision(std::string_view key, int64_t revision, std::string_view value);

struct EtcdValue {
  std::string value;
  int64_t revision = 0;  // of the last change
};

// Of answers with HTTP code 200. kCorrupt with the beginning of the answer if it is not one.
Result<std::optional<EtcdValue>> parse_etcd_range(std::string_view body, std::string_view key);
Result<bool> parse_etcd_put_if(std::string_view body);  // whether it was put
Status parse_etcd_done(std::string_view body);          // of a put or a delete

// Of any other HTTP code: kUnavailable where trying again can help.
Status etcd_error(int64_t http_code, std::string_view body);

}  // namespace colossus
