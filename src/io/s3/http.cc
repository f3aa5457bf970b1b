#include "io/s3/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <mutex>
#include <string_view>

#include "base/broken_pipe.h"

namespace colossus {
namespace {

struct CloseHandle {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using Handle = std::unique_ptr<CURL, CloseHandle>;
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
constexpr long kStallBytesPerSecond = 1000;

struct Transfer {
  CURL* curl;
  const HttpRequest& request;
  HttpResponse response;
  size_t sent = 0;
};

size_t take_body(const char* bytes, size_t, size_t count, void* context) {
  Transfer& transfer = *static_cast<Transfer*>(context);
  long status = 0;
  curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &status);
  const std::span<std::byte> into = transfer.request.into;
  if (into.empty() || status / 100 != 2) {
    if (transfer.response.body.size() + count > kMaxHttpBodyBytes) return 0;  // ends the transfer
    transfer.response.body.append(bytes, count);
    return count;
  }
  auto& filled = transfer.response.num_bytes_into;
  if (static_cast<size_t>(filled) + count > into.size()) return 0;
  std::memcpy(into.data() + filled, bytes, count);
  filled += static_cast<int64_t>(count);
  return count;
}

size_t take_header(const char* bytes, size_t, size_t count, void* context) {
  std::string_view line(bytes, count);
  auto& headers = static_cast<Transfer*>(context)->response.headers;
  if (line.starts_with("HTTP/")) headers.clear();  // of the last answer, not of an interim one
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return count;
  std::string name(line.substr(0, colon));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  line.remove_prefix(colon + 1);
  const size_t begin = std::min(line.find_first_not_of(" \t"), line.size());
  const size_t end = line.find_last_not_of(" \t\r\n");
  headers[name] = end == std::string_view::npos || end < begin ? "" : std::string(line.substr(begin, end - begin + 1));
  return count;
}

size_t give_body(char* into, size_t, size_t room, void* context) {
  Transfer& transfer = *static_cast<Transfer*>(context);
  const auto left = transfer.request.body.subspan(transfer.sent);
  const size_t count = std::min(room, left.size());
  if (count > 0) std::memcpy(into, left.data(), count);
  transfer.sent += count;
  return count;
}

// curl sends a body again when a kept connection turns out to be dead.
int seek_body(void* context, curl_off_t offset, int origin) {
  Transfer& transfer = *static_cast<Transfer*>(context);
  if (origin != SEEK_SET || offset < 0 || static_cast<size_t>(offset) > transfer.request.body.size())
    return CURL_SEEKFUNC_FAIL;
  transfer.sent = static_cast<size_t>(offset);
  return CURL_SEEKFUNC_OK;
}

void set_method(Transfer& transfer) {
  CURL* const curl = transfer.curl;
  const std::string& method = transfer.request.method;
  if (method == "HEAD") {
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  } else if (method == "PUT" || method == "POST") {
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(transfer.request.body.size()));
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, give_body);
    curl_easy_setopt(curl, CURLOPT_READDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, seek_body);
    curl_easy_setopt(curl, CURLOPT_SEEKDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method.c_str());
  } else {
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method.c_str());
  }
}

}  // namespace

struct HttpClient::Handles {
  std::mutex mutex;
  std::vector<Handle> idle;

  Handle take() {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return Handle(curl_easy_init());
    Handle handle = std::move(idle.back());
    idle.pop_back();
    return handle;
  }
  void give_back(Handle handle) {
    // Its connections stay; what it points to goes.
    curl_easy_reset(handle.get());
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(handle));
  }
};

HttpClient::HttpClient() : handles_(std::make_unique<Handles>()) {}
HttpClient::~HttpClient() = default;

HttpResponse HttpClient::send(const HttpRequest& request, const HttpLimits& limits) {
  Handle handle = handles_->take();
  if (handle == nullptr) return {.error = "no memory for a connection"};
  CURL* const curl = handle.get();
  Transfer transfer{.curl = curl, .request = request, .response = {}};
  std::unique_ptr<curl_slist, FreeList> headers(curl_slist_append(nullptr, "Expect:"));
  for (const std::string& header : request.headers) curl_slist_append(headers.get(), header.c_str());
  std::array<char, CURL_ERROR_SIZE> error{};
  const auto milliseconds = [](double seconds) { return std::max(1L, static_cast<long>(seconds * 1e3)); };
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  // The path is signed as it is.
  curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error.data());
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, milliseconds(limits.connect_seconds));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, milliseconds(limits.seconds));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, kStallBytesPerSecond);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, std::max(1L, static_cast<long>(limits.stall_seconds)));
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, request.send_once ? 1L : 0L);
  set_method(transfer);
  CURLcode code = CURLE_OK;
  {
    const NoBrokenPipeSignal guard;
    code = curl_easy_perform(curl);
  }
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  HttpResponse response = std::move(transfer.response);
  if (code == CURLE_OK) {
    response.status = static_cast<int>(status);
  } else {
    response.error = error[0] != '\0' ? error.data() : curl_easy_strerror(code);
  }
  handles_->give_back(std::move(handle));
  return response;
}

}  // namespace colossus
