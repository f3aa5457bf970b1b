// One HTTP request and its answer. The only file of io that knows libcurl.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace colossus {

struct HttpRequest {
  std::string method;
  std::string url;
  std::vector<std::string> headers;      // "name: value"
  std::span<const std::byte> body = {};  // must outlive the call
  // Where the body of a 2xx answer goes; one that is longer is an error. Bodies of other answers, and of all when this
  // is empty, are kept in the response.
  std::span<std::byte> into = {};
  // On a kept connection that ends without an answer curl sends a request again, unasked. On a new one it is sent once.
  bool send_once = false;
};

struct HttpLimits {
  double connect_seconds = 10;
  double stall_seconds = 30;  // fewer than 1000 bytes a second, for so long
  double seconds = 600;       // of all of it
};

struct HttpResponse {
  int status = 0;  // 0: there was no answer, or only a part of one; then `error` says why
  std::string error;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // at most kMaxHttpBodyBytes
  int64_t num_bytes_into = 0;                  // of request.into that were filled
};
inline constexpr size_t kMaxHttpBodyBytes = size_t{32} << 20;

// Keeps connections open; any number of threads.
class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpResponse send(const HttpRequest& request, const HttpLimits& limits);

 private:
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

}  // namespace colossus
